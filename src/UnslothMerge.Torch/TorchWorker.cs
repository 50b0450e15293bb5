using UnslothMerge.Simd;

namespace UnslothMerge.Torch;

internal sealed class TorchWorker : IDeviceWorker
{
    private readonly TorchDevice _device;
    private readonly TransferBuffers _buffers;
    private TileStatistics _statistics;

    public TorchWorker(TorchDevice device, TransferBuffers buffers)
    {
        (_device, _buffers) = (device, buffers);
        try
        {
            TorchErrors.Translate(LoadKernels);
        }
        catch
        {
            buffers.Dispose();
            throw;
        }
    }

    public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics)
    {
        var opened = (TorchTensor)tensor;
        _statistics = default;
        var buffer = TorchErrors.Translate(() =>
        {
            opened.RequireMemory(rows, _device.MostElements);
            using var scope = torch.NewDisposeScope();
            using var quiet = torch.no_grad();
            return opened.Merge(row, rows, _buffers, ref _statistics);
        });
        statistics.Add(_statistics);
        return buffer.Bytes[..opened.BytesOf(rows)];
    }

    public void Dispose()
    {
        _buffers.Dispose();
        _device.Closed();
    }

    // Loads the thread's cuBLAS handle with its workspace, and the kernels, which libtorch loads at their first use.
    private bool LoadKernels()
    {
        using var scope = torch.NewDisposeScope();
        using var quiet = torch.no_grad();
        var plane = torch.zeros(64, 64, torch.float32, _device.Device);
        var rounded = plane.add(plane.addmm_(plane.alias(), plane.alias())).to(torch.bfloat16);
        var figures = torch.stack([plane.square().sum(1).sum(torch.float64), rounded.isfinite().all().to(torch.float64)]);
        return torch.empty(2, torch.float64).copy_(figures).NumberOfElements == 2;
    }
}
