using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Torch.Native;
using static TorchSharp.torch;

namespace UnslothMerge.Torch;

/// <summary>libtorch on a GPU, or, for tests, on the processor.</summary>
internal sealed class TorchDevice : IMergeDevice
{
    // A worker has a cuBLAS handle, its workspace (32 MiB on Hopper) and a stream; the allocator takes blocks of 2 and 20 MiB. Measured
    // on an H200 with libtorch 2.11, without the context and with small batches: 333 MB with 2 workers, 1.1 GB with 8.
    private static readonly DeviceOverhead GpuOverhead = new(200_000_000, 120_000_000);

    private readonly Lock _gate = new();
    private readonly int? _gpu;
    private int _workers;

    public TorchDevice(DeviceRequest request, LoadedTorch loaded)
    {
        _gpu = request.Kind == DeviceKind.Cuda ? request.Index : null;
        Notes = loaded.Notes;
        if (_gpu is not { } gpu)
        {
            InitializeDeviceType(DeviceType.CPU);
            Device = CPU;
            Name = request.ToString();
            return;
        }

        if (!TryInitializeDeviceType(DeviceType.CUDA) || !cuda.is_available())
        {
            throw new MergeException(
                MergeError.DeviceUnavailable,
                $"The libtorch in '{loaded.Torch.Directory}' finds no GPU: the driver is older than its CUDA version, or " +
                    "CUDA_VISIBLE_DEVICES hides the GPU.",
                loaded.Torch.Directory,
                LibTorch.Advice);
        }

        // Full fp32 products: TF32 keeps ten bits of them.
        backends.cuda.matmul.allow_tf32 = false;
        Device = device(DeviceType.CUDA, gpu);
        Name = $"{request} ({CudaDriver.Instance.NameOf(gpu)})";
    }

    public string Name { get; }

    public IReadOnlyList<string> Notes { get; }

    public long FreeBytes
    {
        get
        {
            if (_gpu is not { } gpu)
            {
                return HostMemory.Available;
            }

            CudaDriver.Instance.SetContext(gpu);
            return CudaDriver.Instance.FreeBytes();
        }
    }

    public DeviceOverhead Overhead => _gpu is null ? default : GpuOverhead;

    public Device Device { get; }

    /// <summary>Simulates a device memory of so many elements. For tests.</summary>
    public long MostElements { get; set; } = long.MaxValue;

    public double MeasureBus() => TorchErrors.Translate(CopyBothWays);

    public IDeviceTensor Open(WriteTensor tensor, InputFiles files) => TorchErrors.Translate(() => new TorchTensor(tensor, files, Device));

    public IDeviceWorker OpenWorker()
    {
        // One at a time, and a second one only if batches fit, too: the memory of a cuBLAS handle is never released.
        lock (_gate)
        {
            if (_gpu is not null && _workers > 0 && FreeBytes < 2 * Overhead.PerWorker)
            {
                throw new DeviceMemoryException($"{ByteSize.Text(FreeBytes)} are too little for another worker");
            }

            var worker = new TorchWorker(this, TorchErrors.Translate(OpenBuffers));
            Interlocked.Increment(ref _workers);
            return worker;
        }
    }

    public void Closed() => Interlocked.Decrement(ref _workers);

    public void Dispose()
    {
        // libtorch stays loaded, as native libraries do; workers and tensors have released their memory.
    }

    private double CopyBothWays()
    {
        const int bytes = 64 * 1024 * 1024, rounds = 3;
        using var up = OpenBuffers();
        using var down = OpenBuffers();
        var (first, second) = (up.Take("bus", ScalarType.Byte, bytes), down.Take("bus", ScalarType.Byte, bytes));
        var best = double.MaxValue;
        for (var round = 0; round < rounds; round++)
        {
            var start = Stopwatch.GetTimestamp();
            up.Upload(first);
            down.Download(second);
            up.Wait();
            down.Wait();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return bytes / best;
    }

    private TransferBuffers OpenBuffers() => _gpu is { } gpu ? new CudaTransferBuffers(Device, gpu) : new TransferBuffers(Device);
}
