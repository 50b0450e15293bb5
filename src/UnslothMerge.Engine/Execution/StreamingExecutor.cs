using System.Runtime.ExceptionServices;
using UnslothMerge.Devices;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the tensors of a plan into shards that are already open. Workers take piece after piece, each with its own reads, memory
/// and writes; they share nothing but the factors of the tensor in work. A device's lanes do the same with the tensors that the device
/// merges. The caller's thread waits, reports progress and can cancel.</summary>
internal sealed class StreamingExecutor
{
    // Enough for the disk to work on while the next bytes are made, and few calls.
    private const long FlushBytes = 32 * 1024 * 1024;

    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(100);

    private readonly ExecutionPlan _plan;
    private readonly DeviceRun? _device;
    private readonly bool _flush;
    private readonly CancellationTokenSource _stop;
    private readonly ImmutableArray<TensorWork> _works;
    private readonly WorkQueue<CoreJob> _forWorkers;
    private readonly WorkQueue<DeviceJob> _forDevice;
    private long _written;
    private volatile TensorWork? _current;
    private int _lanes;
    private ExceptionDispatchInfo? _failure;

    private StreamingExecutor(
        ExecutionPlan plan,
        IReadOnlyList<ShardWriter> shards,
        InputFiles files,
        DeviceRun? device,
        bool flush,
        CancellationToken cancellation)
    {
        _plan = plan;
        _device = device;
        _flush = flush;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var batches = new DeviceBatches();
        _works = [.. plan.Write.Shards.SelectMany((shard, i) =>
            shard.Tensors.Select(t => WorkOn(t, ShardOutput.Of(t, shard, shards[i]), shard)))];
        _forWorkers = new WorkQueue<CoreJob>([.. _works.OfType<CoreJob>()], plan.ResidentBytes);
        _forDevice = new WorkQueue<DeviceJob>([.. _works.OfType<DeviceJob>()], device?.Plan.ResidentBytes ?? 0);

        TensorWork WorkOn(WriteTensor tensor, ShardOutput output, WriteShard shard) =>
            device?.Plan.RowsOf(tensor) is { } rows ? new DeviceJob(tensor, output, shard, files, device.Device, batches, rows)
            : tensor.Verbatim is not null ? new CopyJob(tensor, output, shard, files)
            : new MergeJob(tensor, output, shard, files, plan.Workers);
    }

    /// <summary>Writes all tensors, to one open file per shard of the plan; gives what became of each, in the order of the shards. A file
    /// that will be flushed is written to the disk on the way. Progress is reported on this thread, about ten times a second.</summary>
    public static IReadOnlyList<TensorResult> Run(
        ExecutionPlan plan,
        IReadOnlyList<SafeFileHandle> shards,
        DeviceRun? device,
        bool flush,
        IProgress<MergeProgress>? progress,
        CancellationToken cancellation)
    {
        using var files = new InputFiles(plan.SharedBytes);
        using var buffers = new PieceBuffers(plan.BufferCount, plan.PieceBytes);
        using var direct = DirectWrites.Prepare(buffers);
        var writers = shards.Select(s => new ShardWriter(s, buffers, direct)).ToList();
        var executor = new StreamingExecutor(plan, writers, files, device, flush, cancellation);
        try
        {
            executor.Run(progress);
            direct?.Wait();
            cancellation.ThrowIfCancellationRequested();
            return [.. executor._works.Select(j => j.Result)];
        }
        finally
        {
            executor._stop.Dispose();
            foreach (var work in executor._works)
            {
                work.Dispose();
            }

            // Closed while direct writes are under way, a file stays open for them.
            writers.ForEach(w => w.Dispose());
        }
    }

    private void Run(IProgress<MergeProgress>? progress)
    {
        var lanes = _lanes = _device?.Plan.Lanes ?? 0;
        var threads = new Thread[_plan.Workers + lanes];
        for (var i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(i < lanes ? WorkOnDevice : Work) { IsBackground = true, Name = $"merge {i}" };
            threads[i].Start();
        }

        try
        {
            foreach (var thread in threads)
            {
                while (!thread.Join(ProgressInterval))
                {
                    Report(progress);
                }
            }
        }
        catch
        {
            // Whoever shows the progress may throw, to stop the merge or by mistake: the workers must be gone before what they use is.
            _stop.Cancel();
            Array.ForEach(threads, t => t.Join());
            throw;
        }

        _failure?.Throw();
        Report(progress);
    }

    private void Report(IProgress<MergeProgress>? progress)
    {
        if (progress is not null && _current is { } job)
        {
            progress.Report(new MergeProgress(Interlocked.Read(ref _written), _plan.Write.Bytes, job.Tensor.Name, job.Shard.Name));
        }
    }

    private void Work() => Guard(() =>
    {
        using var buffers = new WorkerBuffers(_plan.WorkerBytes);
        Drain(_forWorkers, (job, piece) => job.Run(piece, buffers, _stop.Token));
    });

    private void WorkOnDevice() => Guard(() =>
    {
        // A lane that finds no memory gives back what it holds and leaves its piece to the others. The last one tries again, alone.
        var alone = false;
        do
        {
            try
            {
                using var lane = _device!.Device.OpenLane();
                Drain(_forDevice, (job, piece) => MergeOrReturn(job, piece, lane, alone));
            }
            catch (DeviceMemoryException e) when (alone)
            {
                throw NoRoom(e);
            }
            catch (DeviceMemoryException)
            {
            }

            alone = Interlocked.Decrement(ref _lanes) == 0;
        }
        while (alone && _forDevice.HasMore && !_stop.IsCancellationRequested);
    });

    private long MergeOrReturn(DeviceJob job, int piece, IDeviceLane lane, bool alone)
    {
        try
        {
            return job.Run(piece, lane, alone);
        }
        catch (DeviceMemoryException)
        {
            _forDevice.Return(job, piece);
            throw;
        }
    }

    private MergeException NoRoom(DeviceMemoryException e) => new(
        MergeError.DoesNotFit,
        $"{_device!.Device.Name} has too little memory for the merge, with {ByteSize.Text(_device.Device.FreeBytes)} free: {e.Message}",
        "Device",
        "Free memory of the device, or use -Device cpu.",
        e);

    private void Drain<T>(WorkQueue<T> queue, Func<T, int, long> run)
        where T : TensorWork
    {
        while (!_stop.IsCancellationRequested && queue.Next(_stop.Token) is var (work, piece))
        {
            _current = work;
            var bytes = run(work, piece);
            var written = Interlocked.Add(ref _written, bytes);
            if (_flush && written / FlushBytes > (written - bytes) / FlushBytes)
            {
                work.BeginFlush();
            }

            if (work.IsDone)
            {
                queue.Release(work);
            }
        }
    }

    private void Guard(Action work)
    {
        try
        {
            work();
        }
#pragma warning disable CA1031 // rethrown on the caller's thread: the first failure is the one that counts
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            _stop.Cancel();
        }
    }
}
