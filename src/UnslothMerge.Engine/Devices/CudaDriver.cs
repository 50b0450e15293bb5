namespace UnslothMerge.Devices;

/// <summary>The functions of NVIDIA's driver that libtorch's binding does not offer: the number of GPUs and their free memory (without
/// libtorch), and copies that run during computations. Source: CUDA driver API.</summary>
internal sealed unsafe class CudaDriver
{
    private const int NonBlocking = 1;
    private const int NoTiming = 2;

    private static readonly Lazy<CudaDriver?> Loaded = new(Load);

    private readonly nint _library;
    private readonly int _count;

    private CudaDriver(nint library)
    {
        _library = library;
        int count;
        if (((delegate* unmanaged<uint, int>)Export("cuInit"))(0) != 0
            || ((delegate* unmanaged<int*, int>)Export("cuDeviceGetCount"))(&count) != 0)
        {
            count = 0;
        }

        _count = count;
    }

    /// <summary>The number of GPUs; 0 without a driver.</summary>
    public static int Count => Loaded.Value?._count ?? 0;

    public static CudaDriver Instance => Loaded.Value ?? throw new InvalidOperationException("There is no CUDA driver.");

    public string NameOf(int device)
    {
        var name = stackalloc byte[256];
        int handle;
        Check(((delegate* unmanaged<int*, int, int>)Export("cuDeviceGet"))(&handle, device));
        Check(((delegate* unmanaged<byte*, int, int, int>)Export("cuDeviceGetName"))(name, 256, handle));
        return Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(name));
    }

    /// <summary>Makes libtorch's context of a GPU that of the calling thread.</summary>
    public void SetContext(int device)
    {
        int handle;
        nint context;
        Check(((delegate* unmanaged<int*, int, int>)Export("cuDeviceGet"))(&handle, device));
        Check(((delegate* unmanaged<nint*, int, int>)Export("cuDevicePrimaryCtxRetain"))(&context, handle));
        Check(((delegate* unmanaged<nint, int>)Export("cuCtxSetCurrent"))(context));
    }

    /// <summary>The free bytes of the GPU whose context the calling thread has.</summary>
    public long FreeBytes()
    {
        nuint free, total;
        Check(((delegate* unmanaged<nuint*, nuint*, int>)Export("cuMemGetInfo_v2"))(&free, &total));
        return (long)free;
    }

    /// <summary>A stream that does not wait for the default one, on which libtorch computes.</summary>
    public nint CreateStream()
    {
        nint stream;
        Check(((delegate* unmanaged<nint*, uint, int>)Export("cuStreamCreate"))(&stream, NonBlocking));
        return stream;
    }

    public nint CreateEvent()
    {
        nint @event;
        Check(((delegate* unmanaged<nint*, uint, int>)Export("cuEventCreate"))(&@event, NoTiming));
        return @event;
    }

    /// <summary>Starts a copy to the device.</summary>
    public void Upload(nint device, nint host, long bytes, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, nint, int>)Export("cuMemcpyHtoDAsync_v2"))(device, host, (nuint)bytes, stream));

    /// <summary>Starts a copy from the device.</summary>
    public void Download(nint host, nint device, long bytes, nint stream) =>
        Check(((delegate* unmanaged<nint, nint, nuint, nint, int>)Export("cuMemcpyDtoHAsync_v2"))(host, device, (nuint)bytes, stream));

    /// <summary>Makes the second stream wait for what the first has been given so far. 0 is the default stream.</summary>
    public void Order(nint first, nint second, nint @event)
    {
        Check(((delegate* unmanaged<nint, nint, int>)Export("cuEventRecord"))(@event, first));
        Check(((delegate* unmanaged<nint, nint, uint, int>)Export("cuStreamWaitEvent"))(second, @event, 0));
    }

    public void Wait(nint stream) => Check(((delegate* unmanaged<nint, int>)Export("cuStreamSynchronize"))(stream));

    public void Destroy(nint stream, nint @event)
    {
        Check(((delegate* unmanaged<nint, int>)Export("cuStreamDestroy_v2"))(stream));
        Check(((delegate* unmanaged<nint, int>)Export("cuEventDestroy_v2"))(@event));
    }

    private static CudaDriver? Load() =>
        NativeLibrary.TryLoad(OperatingSystem.IsWindows() ? "nvcuda" : "libcuda.so.1", out var library) ? new CudaDriver(library) : null;

    private nint Export(string name) => NativeLibrary.GetExport(_library, name);

    private void Check(int result)
    {
        const int outOfMemory = 2;
        if (result != 0)
        {
            byte* text;
            var message = ((delegate* unmanaged<int, byte**, int>)Export("cuGetErrorString"))(result, &text) == 0
                ? Marshal.PtrToStringUTF8((nint)text) : null;
            throw result == outOfMemory ? new DeviceMemoryException(message ?? "out of memory") : new MergeException(
                MergeError.DeviceUnavailable, $"The GPU failed: {message ?? "error"} (CUDA error {result}).", "Device",
                "Check the GPU with nvidia-smi, or use -Device cpu.");
        }
    }
}
