using TorchSharp;
using static TorchSharp.torch;

namespace UnslothMerge.Gpu;

/// <summary>Takes a device's memory but for a remainder, until it is disposed of.</summary>
internal sealed class FullMemory : IDisposable
{
    private readonly List<Tensor> _taken = [];

    public FullMemory(IMergeDevice device, Device where, long remainder)
    {
        // libtorch takes pieces of 2 MiB from the driver.
        const long least = 2 * 1024 * 1024;
        for (var piece = 8L << 30; piece >= least;)
        {
            if (device.FreeBytes - piece < remainder)
            {
                piece /= 2;
                continue;
            }

            try
            {
                _taken.Add(empty(piece, ScalarType.Byte, where).DetachFromDisposeScope());
            }
            catch (System.Runtime.InteropServices.ExternalException)
            {
                piece /= 2;
            }
        }
    }

    public void Dispose() => _taken.ForEach(t => t.Dispose());
}
