using System.Collections.Concurrent;
using UnslothMerge.Devices;

namespace UnslothMerge.Execution;

/// <summary>Writes the tensors of a plan into open shards. Each worker takes one piece after the other, with reads, memory and writes of
/// its own; workers share only the factors of a tensor. Device workers do the same with the tensors that the device merges. One more thread
/// finishes shards that are written. The caller's thread waits, reports progress and can cancel.</summary>
internal sealed class StreamingExecutor : IDisposable
{
    // Large enough for few calls, small enough for the disk to write while the next bytes are computed.
    private const long FlushBytes = 32 * 1024 * 1024;

    private readonly ExecutionPlan _plan;
    private readonly DeviceRun? _device;
    private readonly bool _flush;
    private readonly InputFiles _files;
    private readonly JobQueue<CoreJob> _coreJobs;
    private readonly JobQueue<DeviceJob> _deviceJobs;
    private readonly List<OpenShard> _shards;
    private readonly Action<ShardFile, IReadOnlyList<TensorResult>, TimeSpan> _finish;
    private readonly BlockingCollection<OpenShard> _written = [];
    private readonly Dictionary<string, SharedSurvey> _surveys = new(StringComparer.Ordinal);
    private readonly ILookup<string, WriteTensor> _sets;
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
        _files = files;
        _device = device;
        _flush = flush;
        _finish = finish;
        _bytes = plan.Write.Bytes - shards.Sum(s => s.File.Shard.Layout.Length - s.File.Cloned);
        _sets = plan.Write.Tensors.Where(t => t.Sink.SurveySet is not null).ToLookup(t => t.Sink.SurveySet!, StringComparer.Ordinal);
        _toSurvey = shards.SelectMany(s => s.File.Shard.Tensors).Select(t => t.Sink.SurveySet).OfType<string>().Distinct()
            .SelectMany(s => _sets[s]).Sum(t => t.Bytes);
        _shards = [.. shards.Select(s => new OpenShard(s.File, s.Writer))];
        _coreJobs = new JobQueue<CoreJob>(WithPieces(CoreJobs()), plan.ResidentBytes);
        _deviceJobs = new JobQueue<DeviceJob>(WithPieces(DeviceJobs()), device?.Plan.ResidentBytes ?? 0);
    }

    /// <summary>Writes the tensors of some of the plan's shards, to an open file each. Each shard that is written whole is handed on with
    /// its results, in the order of the model, and the time since its first piece was begun, on another thread. Files that will be
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
        try
        {
            using var executor = new StreamingExecutor(plan, [.. shards.Zip(writers)], files, options.Device, options.Sync, finish);
            executor.Run(progress, cancellation);
        }
        finally
        {
            // Direct writes in progress keep their file open.
            writers.ForEach(w => w.Dispose());
        }
    }

    public void Dispose()
    {
        _written.Dispose();
        _coreJobs.Dispose();
        _deviceJobs.Dispose();
        foreach (var survey in _surveys.Values)
        {
            survey.Dispose();
        }
    }

    // Before the first tensor of a set all of it is surveyed, wherever it is written, or was by an earlier save.
    private IEnumerable<CoreJob> CoreJobs()
    {
        foreach (var (tensor, shard) in InReadingOrder())
        {
            if (tensor.Sink.SurveySet is { } set && !_surveys.ContainsKey(set))
            {
                var survey = _surveys[set] = new SharedSurvey(_sets[set].Count());
                foreach (var member in _sets[set])
                {
                    yield return new SurveyJob(member, shard, _files, survey, _plan.Workers);
                }
            }

            if (tensor.Verbatim is not null)
            {
                yield return new CopyJob(tensor, shard, _files);
            }
            else if (_device?.Plan.RowsOf(tensor) is null)
            {
                var survey = tensor.Sink.SurveySet is { } own ? _surveys[own] : null;
                yield return new MergeJob(tensor, shard, _files, survey, _plan.Workers);
            }
        }
    }

    private IEnumerable<DeviceJob> DeviceJobs()
    {
        var batches = new DeviceBatches();
        foreach (var (tensor, shard) in _device is null ? [] : InReadingOrder())
        {
            if (_device!.Plan.RowsOf(tensor) is { } rows)
            {
                yield return new DeviceJob(tensor, shard, _files, _device.Device, batches, rows);
            }
        }
    }

    // What is on the Hub yet comes in the order of its files; what lies here is read as it is written.
    private IEnumerable<(WriteTensor Tensor, OpenShard Shard)> InReadingOrder()
    {
        var all = _shards.SelectMany(s => s.File.Shard.Tensors.Where(t => !s.File.Has(t)).Select(t => (Tensor: t, Shard: s)));
        var files = _plan.Write.Merge.InputFiles.Where(f => f.Remote is { IsDownloaded: false }).Select((f, i) => (f, i))
            .ToDictionary(f => f.f, f => f.i);
        return files.Count == 0 ? all : all.Select(o => (Output: o, Input: o.Tensor.Tensor.Source.Inputs[0]))
            .OrderBy(o => files.GetValueOrDefault(o.Input.File, -1)).ThenBy(o => o.Input.Offset).Select(o => o.Output);
    }

    // Tensors without elements are done when they are reached.
    private IEnumerable<T> WithPieces<T>(IEnumerable<T> jobs)
        where T : TensorJob
    {
        foreach (var job in jobs)
        {
            if (job.Pieces > 0)
            {
                yield return job;
            }
            else
            {
                End(job);
            }
        }
    }

    private void Run(IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        var deviceWorkers = _deviceWorkers = _device?.Plan.Workers ?? 0;
        foreach (var shard in _shards.Where(s => s.BeginWithClone()))
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
            progress.Report(new MergeProgress(Interlocked.Read(ref _bytes), _plan.Write.Bytes, job.Tensor.Name, job.Shard.File.Shard.Name)
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
            var writes = job is not SurveyJob;
            if (writes)
            {
                job.Shard.Begin();
            }

            var bytes = run(job, piece);
            var written = Interlocked.Add(ref writes ? ref _bytes : ref _surveyed, bytes);
            if (_flush && writes && written / FlushBytes > (written - bytes) / FlushBytes)
            {
                job.Shard.Writer.BeginFlush();
            }

            if (job.TryEnd())
            {
                queue.Release(job);
                End(job);
            }
        }
    }

    private void End(TensorJob job)
    {
        if (job is not SurveyJob && job.Shard.End(job.Result))
        {
            _written.Add(job.Shard);
        }
    }

    private void FinishShards(CancellationToken stop)
    {
        foreach (var shard in _written.GetConsumingEnumerable(stop))
        {
            shard.Writer.Drain(stop);
            _finish(shard.File, shard.Results, shard.Elapsed);
        }
    }
}
