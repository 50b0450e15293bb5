using System.Collections.Concurrent;
using UnslothMerge.Devices;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Writes the tensors of a plan into open shards. Each worker takes one piece after the other, with reads, memory and writes of
/// its own; workers share only the factors of a tensor. Device workers do the same with the tensors that the device merges. One more thread
/// finishes shards that are written. The caller's thread waits, reports progress and can cancel.</summary>
internal sealed class StreamingExecutor
{
    // Large enough for few calls, small enough for the disk to write while the next bytes are computed.
    private const long FlushBytes = 32 * 1024 * 1024;

    private readonly ExecutionPlan _plan;
    private readonly DeviceRun? _device;
    private readonly bool _flush;
    private readonly ImmutableArray<TensorJob> _jobs;
    private readonly JobQueue<CoreJob> _coreJobs;
    private readonly JobQueue<DeviceJob> _deviceJobs;
    private readonly Dictionary<ShardFile, OpenShard> _shards;
    private readonly Action<ShardFile, IReadOnlyList<TensorResult>, TimeSpan> _finish;
    private readonly BlockingCollection<OpenShard> _written = [];
    private readonly Dictionary<string, SharedSurvey> _surveys = new(StringComparer.Ordinal);
    private readonly long _toSurvey;
    private long _bytes;
    private long _surveyed;
    private volatile TensorJob? _current;
    private int _deviceWorkers;

    private StreamingExecutor(
        ExecutionPlan plan,
        IReadOnlyList<(ShardFile File, ShardWriter Writer)> shards,
        InputFiles files,
        DeviceRun? device,
        bool flush,
        Action<ShardFile, IReadOnlyList<TensorResult>, TimeSpan> finish)
    {
        _plan = plan;
        _device = device;
        _flush = flush;
        _finish = finish;
        _bytes = plan.Write.Bytes - shards.Sum(s => s.File.Shard.Layout.Length - s.File.Cloned);
        var batches = new DeviceBatches();
        var sets = plan.Write.Tensors.Where(t => t.Sink.SurveySet is not null).ToLookup(t => t.Sink.SurveySet!, StringComparer.Ordinal);
        var outputs = shards.SelectMany(s => s.File.Shard.Tensors.Select(t => (t, ShardOutput.Of(t, s.File, s.Writer))));
        _jobs = [.. InReadingOrder(outputs).SelectMany(o => JobsOf(o.Tensor, o.Output))];
        Garbage.Release(_jobs.Length);
        _toSurvey = sets.Where(s => _surveys.ContainsKey(s.Key)).SelectMany(s => s).Sum(t => t.Bytes);
        var written = _jobs.Where(j => j is not SurveyJob).ToLookup(j => j.File);
        _shards = shards.ToDictionary(s => s.File, s => new OpenShard(s.File, s.Writer, [.. written[s.File]]));
        _coreJobs = new JobQueue<CoreJob>([.. _jobs.OfType<CoreJob>()], plan.ResidentBytes);
        _deviceJobs = new JobQueue<DeviceJob>([.. _jobs.OfType<DeviceJob>()], device?.Plan.ResidentBytes ?? 0);
        Garbage.Release(_jobs.Length);

        // Before the first tensor of a set all of it is surveyed, wherever it is written, or was by an earlier save.
        IEnumerable<TensorJob> JobsOf(WriteTensor tensor, ShardOutput output)
        {
            if (tensor.Sink.SurveySet is { } set && !_surveys.ContainsKey(set))
            {
                var survey = _surveys[set] = new SharedSurvey(sets[set].Count());
                foreach (var member in sets[set])
                {
                    yield return new SurveyJob(member, output, files, survey, plan.Workers);
                }
            }

            yield return JobOf(tensor, output);
        }

        TensorJob JobOf(WriteTensor tensor, ShardOutput output) =>
            device?.Plan.RowsOf(tensor) is { } rows ? new DeviceJob(tensor, output, files, device.Device, batches, rows)
            : tensor.Verbatim is not null ? new CopyJob(tensor, output, files)
            : new MergeJob(
                tensor, output, files, tensor.Sink.SurveySet is { } set ? _surveys[set] : null, plan.Workers);
    }

    /// <summary>Writes the tensors of some of the plan's shards, to an open file each. Each shard that is written whole is handed on with
    /// its results, in the order of its tensors, and the time since its first piece was begun, on another thread. Files that will be
    /// flushed are written to the disk meanwhile. Progress is reported on this thread, about ten times a second.</summary>
    public static void Run(
        ExecutionPlan plan,
        IReadOnlyList<ShardFile> shards,
        RunOptions options,
        Action<ShardFile, IReadOnlyList<TensorResult>, TimeSpan> finish,
        IProgress<MergeProgress>? progress,
        CancellationToken cancellation)
    {
        using var files = new InputFiles(plan.SharedBytes, options.Disk);
        using var buffers = new PieceBuffers(plan.BufferCount, plan.PieceBytes);
        using var direct = options.Disk.AllowsDirectWrites ? DirectWrites.Prepare(buffers) : null;
        var writers = shards.Select(s => new ShardWriter(options.Disk, s.Handle, buffers, direct)).ToList();
        var executor = new StreamingExecutor(plan, [.. shards.Zip(writers)], files, options.Device, options.Sync, finish);
        try
        {
            executor.Run(progress, cancellation);
        }
        finally
        {
            executor._written.Dispose();
            foreach (var job in executor._jobs)
            {
                job.Dispose();
            }

            foreach (var survey in executor._surveys.Values)
            {
                survey.Dispose();
            }

            // Direct writes in progress keep their file open.
            writers.ForEach(w => w.Dispose());
        }
    }

    // What is on the Hub yet comes in the order of its files; what lies here is read as it is written.
    private IEnumerable<(WriteTensor Tensor, ShardOutput Output)> InReadingOrder(
        IEnumerable<(WriteTensor Tensor, ShardOutput Output)> outputs)
    {
        var files = _plan.Write.Merge.InputFiles.Where(f => f.Remote is { IsDownloaded: false }).Select((f, i) => (f, i))
            .ToDictionary(f => f.f, f => f.i);
        return files.Count == 0 ? outputs : outputs.Select(o => (Output: o, Input: o.Tensor.Tensor.Source.Inputs[0]))
            .OrderBy(o => files.GetValueOrDefault(o.Input.File, -1)).ThenBy(o => o.Input.Offset).Select(o => o.Output);
    }

    private void Run(IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var deviceWorkers = _deviceWorkers = _device?.Plan.Workers ?? 0;
        foreach (var shard in _shards.Values.Where(s => s.IsWritten))
        {
            _written.Add(shard, cancellation);
        }

        // The last worker that ends leaves no more shards to the thread that finishes them.
        var merging = _plan.Workers + deviceWorkers;
        var left = merging;
        Workers.Run("merge", merging + 1, Work, () => Report(progress), cancellation);

        void Work(int number, CancellationToken stop)
        {
            if (number == merging)
            {
                FinishShards(stop);
                return;
            }

            try
            {
                if (number < deviceWorkers)
                {
                    RunDeviceWorker(stop);
                }
                else
                {
                    RunWorker(stop);
                }
            }
            finally
            {
                if (Interlocked.Decrement(ref left) == 0)
                {
                    _written.CompleteAdding();
                }
            }
        }
    }

    private void Report(IProgress<MergeProgress>? progress)
    {
        if (progress is not null && _current is { } job)
        {
            progress.Report(new MergeProgress(Interlocked.Read(ref _bytes), _plan.Write.Bytes, job.Tensor.Name, job.File.Shard.Name)
            {
                Surveyed = Interlocked.Read(ref _surveyed),
                ToSurvey = _toSurvey,
            });
        }
    }

    private void RunWorker(CancellationToken stop)
    {
        using var buffers = new WorkerBuffers(_plan.WorkerBytes);
        RunPieces(_coreJobs, (job, piece) => job.Run(piece, buffers, stop), stop);
    }

    private void RunDeviceWorker(CancellationToken stop)
    {
        // A worker without memory releases what it holds and leaves its piece to the others. The last one tries again, alone.
        var alone = false;
        do
        {
            try
            {
                using var worker = _device!.Device.OpenWorker();
                RunPieces(_deviceJobs, (job, piece) => RunOrReturn(job, piece, worker, alone), stop);
            }
            catch (DeviceMemoryException e) when (alone)
            {
                throw TooLittleMemory(e);
            }
            catch (DeviceMemoryException)
            {
            }

            alone = Interlocked.Decrement(ref _deviceWorkers) == 0;
        }
        while (alone && !_deviceJobs.IsEmpty && !stop.IsCancellationRequested);
    }

    private long RunOrReturn(DeviceJob job, int piece, IDeviceWorker worker, bool alone)
    {
        try
        {
            return job.Run(piece, worker, alone);
        }
        catch (DeviceMemoryException)
        {
            _deviceJobs.Return(job, piece);
            throw;
        }
    }

    private MergeException TooLittleMemory(DeviceMemoryException e) => new(
        MergeError.DoesNotFit,
        $"{_device!.Device.Name} has too little memory for the merge, with {ByteSize.Text(_device.Device.FreeBytes)} free: {e.Message}",
        "Device",
        "Free memory of the device, or use -Device cpu.",
        e);

    private void RunPieces<T>(JobQueue<T> queue, Func<T, int, long> run, CancellationToken stop)
        where T : TensorJob
    {
        while (!stop.IsCancellationRequested && queue.Next(stop) is var (job, piece))
        {
            _current = job;
            if (job is not SurveyJob)
            {
                _shards[job.File].Begin();
            }

            var bytes = run(job, piece);
            var written = Interlocked.Add(ref job is SurveyJob ? ref _surveyed : ref _bytes, bytes);
            if (_flush && job is not SurveyJob && written / FlushBytes > (written - bytes) / FlushBytes)
            {
                job.BeginFlush();
            }

            if (job.TryEnd())
            {
                queue.Release(job);
                if (job is not SurveyJob && _shards[job.File].EndJob())
                {
                    _written.Add(_shards[job.File], stop);
                }
            }
        }
    }

    private void FinishShards(CancellationToken stop)
    {
        foreach (var shard in _written.GetConsumingEnumerable(stop))
        {
            shard.Writer.Drain(stop);
            _finish(shard.File, [.. shard.Jobs.Select(j => j.Result)], shard.Elapsed);
        }
    }

    /// <summary>A shard in work.</summary>
    private sealed class OpenShard(ShardFile file, ShardWriter writer, ImmutableArray<TensorJob> jobs)
    {
        // Tensors without elements have no pieces.
        private int _left = jobs.Count(j => j.Pieces > 0);
        private long _begun;

        public ShardFile File => file;

        public ShardWriter Writer => writer;

        public ImmutableArray<TensorJob> Jobs => jobs;

        public bool IsWritten => _left == 0;

        /// <summary>The time since its first piece was begun.</summary>
        public TimeSpan Elapsed => _begun == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(_begun);

        /// <summary>Says that a piece is begun.</summary>
        public void Begin()
        {
            if (Volatile.Read(ref _begun) == 0)
            {
                Interlocked.CompareExchange(ref _begun, Stopwatch.GetTimestamp(), 0);
            }
        }

        /// <summary>Counts a tensor as done; true for the last one.</summary>
        public bool EndJob() => Interlocked.Decrement(ref _left) == 0;
    }
}
