using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>Values that lie in host memory and in the device's, [capacity] each, and are copied from one to the other.</summary>
internal sealed record Staged(Tensor Host, Tensor OnDevice) : IDisposable
{
    /// <summary>The host's bytes.</summary>
    public Span<byte> Bytes => Host.bytes;

    public void Dispose()
    {
        Host.Dispose();
        OnDevice.Dispose();
    }
}

/// <summary>One lane's buffers in both memories. They are kept from batch to batch: copies that run beside the computing never meet memory
/// that something else is still computed in. This one copies within the host's memory.</summary>
internal class Staging(Device device) : IDisposable
{
    private readonly Dictionary<(string Name, ScalarType Type), Staged> _buffers = [];

    public Device Device => device;

    /// <summary>A buffer of at least so many values. The same name and dtype give the same buffer.</summary>
    public Staged Take(string name, ScalarType type, long count)
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
            buffer = new Staged(host, empty(count, type, device).DetachFromDisposeScope());
        }
        catch
        {
            host.Dispose();
            throw;
        }

        Settle();
        return _buffers[(name, type)] = buffer;
    }

    /// <summary>Starts bringing a buffer's values up; what is computed afterwards sees them.</summary>
    public void Upload(Staged buffer) => Upload(buffer, buffer.Host.shape[0]);

    public virtual void Upload(Staged buffer, long count)
    {
        using var from = buffer.Host.narrow(0, 0, count);
        using var to = buffer.OnDevice.narrow(0, 0, count);
        to.copy_(from);
    }

    /// <summary>Starts bringing a buffer's values down, as they are once all that was started before is done.</summary>
    public void Download(Staged buffer) => Download(buffer, buffer.Host.shape[0]);

    public virtual void Download(Staged buffer, long count)
    {
        using var from = buffer.OnDevice.narrow(0, 0, count);
        using var to = buffer.Host.narrow(0, 0, count);
        to.copy_(from);
    }

    /// <summary>Waits for everything this lane has started.</summary>
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

    /// <summary>Host memory for a buffer.</summary>
    protected virtual Tensor Allocate(long count, ScalarType type) => empty(count, type).DetachFromDisposeScope();

    /// <summary>Waits until nobody computes in memory that a new buffer may have been given.</summary>
    protected virtual void Settle()
    {
    }
}
