using TorchSharp;
using UnslothMerge.Devices;
using UnslothMerge.Simd;

namespace UnslothMerge.Torch;

/// <summary>One thread's way to a libtorch device.</summary>
internal sealed class TorchLane(TorchDevice device, Staging staging) : IDeviceLane
{
    private TileStatistics _statistics;

    /// <inheritdoc/>
    public Span<byte> Merge(IDeviceTensor tensor, long row, int rows, ref TileStatistics statistics)
    {
        var work = (TorchTensor)tensor;
        _statistics = default;
        var buffer = TorchErrors.Translate(() =>
        {
            work.RequireRoom(rows, device.MostElements);
            using var scope = torch.NewDisposeScope();
            using var quiet = torch.no_grad();
            return work.Merge(row, rows, staging, ref _statistics);
        });
        statistics.Add(_statistics);
        return buffer.Bytes[..work.BytesOf(rows)];
    }

    /// <inheritdoc/>
    public void Dispose() => staging.Dispose();
}
