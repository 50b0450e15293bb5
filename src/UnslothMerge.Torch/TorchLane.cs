using UnslothMerge.Simd;

namespace UnslothMerge.Torch;

/// <summary>One thread's way to a libtorch device.</summary>
internal sealed class TorchLane : IDeviceLane
{
    private readonly TorchDevice _device;
    private readonly Staging _staging;
    private TileStatistics _statistics;

    public TorchLane(TorchDevice device, Staging staging)
    {
        (_device, _staging) = (device, staging);
        try
        {
            TorchErrors.Translate(TakeMemory);
        }
        catch
        {
            staging.Dispose();
            throw;
        }
    }

    public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics)
    {
        var work = (TorchTensor)tensor;
        _statistics = default;
        var buffer = TorchErrors.Translate(() =>
        {
            work.RequireRoom(rows, _device.MostElements);
            using var scope = torch.NewDisposeScope();
            using var quiet = torch.no_grad();
            return work.Merge(row, rows, _staging, ref _statistics);
        });
        statistics.Add(_statistics);
        return buffer.Bytes[..work.BytesOf(rows)];
    }

    public void Dispose()
    {
        _staging.Dispose();
        _device.Closed();
    }

    // The thread's cuBLAS handle with its workspace, and the kernels, loaded at their first use: here, not within a merge.
    private bool TakeMemory()
    {
        using var scope = torch.NewDisposeScope();
        using var quiet = torch.no_grad();
        var plane = torch.zeros(64, 64, torch.float32, _device.Device);
        var rounded = plane.add(plane.addmm_(plane.alias(), plane.alias())).to(torch.bfloat16);
        var figures = torch.stack([plane.square().sum(1).sum(torch.float64), rounded.isfinite().all().to(torch.float64)]);
        return torch.empty(2, torch.float64).copy_(figures).NumberOfElements == 2;
    }
}
