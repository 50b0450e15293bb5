using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>Buffers of a lane to a GPU. Copies run on a stream of the lane's own, from and to pinned memory, beside what other lanes
/// compute on libtorch's default stream; the two streams wait for each other only where one needs what the other made.</summary>
internal sealed partial class CudaStaging : Staging
{
    private const nint DefaultStream = 0;

    private readonly CudaDriver _driver = CudaDriver.Instance;
    private readonly nint _stream;
    private readonly nint _mark;

    public CudaStaging(Device device, int gpu)
        : base(device)
    {
        _driver.Enter(gpu);
        _stream = _driver.CreateStream();
        _mark = _driver.CreateEvent();
    }

    public override void Upload(Staged buffer, long count)
    {
        _driver.Upload(DataOf(buffer.OnDevice.Handle), DataOf(buffer.Host.Handle), count * buffer.Host.ElementSize, _stream);
        _driver.Order(_stream, DefaultStream, _mark);
    }

    public override void Download(Staged buffer, long count)
    {
        _driver.Order(DefaultStream, _stream, _mark);
        _driver.Download(DataOf(buffer.Host.Handle), DataOf(buffer.OnDevice.Handle), count * buffer.Host.ElementSize, _stream);
    }

    public override void Wait() => _driver.Wait(_stream);

    public override void Dispose()
    {
        _driver.Wait(_stream);
        _driver.Destroy(_stream, _mark);
        base.Dispose();
    }

    protected override Tensor Allocate(long count, ScalarType type)
    {
        using var pageable = base.Allocate(count, type);
        return pageable.pin_memory().DetachFromDisposeScope();
    }

    protected override void Settle() => _driver.Wait(DefaultStream);

    [LibraryImport("LibTorchSharp", EntryPoint = "THSTensor_data")]
    private static partial nint DataOf(nint tensor);
}
