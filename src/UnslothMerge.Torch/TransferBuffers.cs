using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>Values that lie in host memory and in the device's, [capacity] each, and are copied from one to the other.</summary>
internal sealed record TransferBuffer(Tensor Host, Tensor OnDevice) : IDisposable
{
    public Span<byte> Bytes => Host.bytes;

    public void Dispose()
    {
        Host.Dispose();
        OnDevice.Dispose();
    }
}

/// <summary>A worker's buffers in host and device memory. They are reused for every batch, so that no copy touches memory of a running
/// computation. This class copies within host memory.</summary>
internal class TransferBuffers(Device device) : IDisposable
{
    private readonly Dictionary<(string Name, ScalarType Type), TransferBuffer> _buffers = [];

    public Device Device => device;

    /// <summary>The buffer of this name and dtype, with room for so many values.</summary>
    public TransferBuffer Take(string name, ScalarType type, long count)
    {
        if (_buffers.TryGetValue((name, type), out var buffer) && buffer.Host.shape[0] >= count)
        {
            return buffer;
        }

        if (_buffers.Remove((name, type), out buffer))
        {
            buffer.Dispose();
        }

        var host = Allocate(count, type);
        try
        {
            buffer = new TransferBuffer(host, empty(count, type, device).DetachFromDisposeScope());
        }
        catch
        {
            host.Dispose();
            throw;
        }

        WaitForComputations();
        return _buffers[(name, type)] = buffer;
    }

    /// <summary>Starts a copy to the device; later computations wait for it.</summary>
    public void Upload(TransferBuffer buffer) => Upload(buffer, buffer.Host.shape[0]);

    public virtual void Upload(TransferBuffer buffer, long count)
    {
        using var from = buffer.Host.narrow(0, 0, count);
        using var to = buffer.OnDevice.narrow(0, 0, count);
        to.copy_(from);
    }

    /// <summary>Starts a copy from the device, after all earlier computations.</summary>
    public void Download(TransferBuffer buffer) => Download(buffer, buffer.Host.shape[0]);

    public virtual void Download(TransferBuffer buffer, long count)
    {
        using var from = buffer.OnDevice.narrow(0, 0, count);
        using var to = buffer.Host.narrow(0, 0, count);
        to.copy_(from);
    }

    /// <summary>Waits for all copies of this worker.</summary>
    public virtual void Wait()
    {
    }

    public virtual void Dispose()
    {
        foreach (var buffer in _buffers.Values)
        {
            buffer.Dispose();
        }
    }

    /// <summary>Allocates host memory.</summary>
    protected virtual Tensor Allocate(long count, ScalarType type) => empty(count, type).DetachFromDisposeScope();

    /// <summary>Waits for computations: a new buffer may reuse memory that one still uses.</summary>
    protected virtual void WaitForComputations()
    {
    }
}
