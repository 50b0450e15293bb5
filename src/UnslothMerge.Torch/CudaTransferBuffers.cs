using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>Transfer buffers of a GPU. Copies from and to pinned memory run on a stream of the worker's own, while libtorch computes on its
/// default stream; each stream waits for the other only where it needs the other's results.</summary>
internal sealed partial class CudaTransferBuffers : TransferBuffers
{
    private const nint DefaultStream = 0;

    private readonly CudaDriver _driver = CudaDriver.Instance;
    private readonly nint _stream;
    private readonly nint _event;

    public CudaTransferBuffers(Device device, int gpu)
        : base(device)
    {
        _driver.SetContext(gpu);
        _stream = _driver.CreateStream();
        _event = _driver.CreateEvent();
    }

    public override void Upload(TransferBuffer buffer, long count)
    {
        _driver.Upload(DataOf(buffer.OnDevice.Handle), DataOf(buffer.Host.Handle), count * buffer.Host.ElementSize, _stream);
        _driver.Order(_stream, DefaultStream, _event);
    }

    public override void Download(TransferBuffer buffer, long count)
    {
        _driver.Order(DefaultStream, _stream, _event);
        _driver.Download(DataOf(buffer.Host.Handle), DataOf(buffer.OnDevice.Handle), count * buffer.Host.ElementSize, _stream);
    }

    public override void Wait() => _driver.Wait(_stream);

    public override void Dispose()
    {
        _driver.Wait(_stream);
        _driver.Destroy(_stream, _event);
        base.Dispose();
    }

    protected override Tensor Allocate(long count, ScalarType type)
    {
        using var pageable = base.Allocate(count, type);
        return pageable.pin_memory().DetachFromDisposeScope();
    }

    protected override void WaitForComputations() => _driver.Wait(DefaultStream);

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_data")]
    private static partial nint DataOf(nint tensor);
}
