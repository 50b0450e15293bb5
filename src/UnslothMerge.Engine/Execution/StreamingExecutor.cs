using System.Collections.Immutable;
using System.Runtime.ExceptionServices;
using Microsoft.Win32.SafeHandles;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>
/// Writes the tensors of a plan into shards that are already open. Workers take piece after piece, each with its own reads, memory and writes;
/// they share nothing but the factors of the tensor in work. The caller's thread waits, reports progress and can cancel.
/// </summary>
public sealed class StreamingExecutor
{
    // Enough for the disk to work on while the next bytes are made, and few calls.
    private const long FlushBytes = 32 * 1024 * 1024;

    private static readonly TimeSpan ProgressInterval = TimeSpan.FromMilliseconds(100);

    private readonly WritePlan _plan;
    private readonly MemoryPlan _memory;
    private readonly bool _flush;
    private readonly CancellationTokenSource _stop;
    private readonly object _gate = new();
    private readonly ImmutableArray<TensorJob> _jobs;
    private int _nextJob;
    private int _nextPiece;
    private long _resident;
    private long _written;
    private volatile TensorJob? _current;
    private ExceptionDispatchInfo? _failure;

    private StreamingExecutor(WritePlan plan, IReadOnlyList<SafeFileHandle> shards, InputFiles files, MemoryPlan memory, bool flush, CancellationToken cancellation)
    {
        _plan = plan;
        _memory = memory;
        _flush = flush;
        _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _jobs = [.. plan.Shards.SelectMany((shard, i) => shard.Tensors.Select(t => new TensorJob(t, shard, shards[i], files)))];
    }

    /// <summary>Writes all tensors.</summary>
    /// <param name="plan">What to write.</param>
    /// <param name="shards">One open file per shard of the plan.</param>
    /// <param name="memory">The number of threads, and how much their common factors may take.</param>
    /// <param name="flush">True if the files will be flushed to the disk: it is given to do on the way.</param>
    /// <param name="progress">Called on this thread, about ten times a second.</param>
    /// <param name="cancellation">Stops every worker within a piece.</param>
    /// <returns>What became of each tensor, in the order in which they lie in the shards.</returns>
    /// <exception cref="OperationCanceledException">The caller cancelled.</exception>
    /// <exception cref="MergeException">A value is not finite, or a file changed.</exception>
    public static IReadOnlyList<TensorResult> Run(WritePlan plan, IReadOnlyList<SafeFileHandle> shards, MemoryPlan memory, bool flush, IProgress<MergeProgress>? progress, CancellationToken cancellation)
    {
        using var files = new InputFiles();
        var executor = new StreamingExecutor(plan, shards, files, memory, flush, cancellation);
        try
        {
            executor.Run(progress);
            cancellation.ThrowIfCancellationRequested();
            return [.. executor._jobs.Select(j => j.Result)];
        }
        finally
        {
            executor._stop.Dispose();
            foreach (var job in executor._jobs)
            {
                job.Dispose();
            }
        }
    }

    private void Run(IProgress<MergeProgress>? progress)
    {
        var threads = new Thread[_memory.Workers];
        for (var i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(Work) { IsBackground = true, Name = $"merge {i}" };
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
            progress.Report(new MergeProgress(Interlocked.Read(ref _written), _plan.Bytes, job.Tensor.Name, job.Shard.Name));
        }
    }

    private void Work()
    {
        try
        {
            using var buffers = new WorkerBuffers(_plan);
            while (!_stop.IsCancellationRequested && Next() is var (job, piece))
            {
                var bytes = job.Run(piece, buffers, _stop.Token);
                var written = Interlocked.Add(ref _written, bytes);
                if (_flush && written / FlushBytes > (written - bytes) / FlushBytes)
                {
                    job.BeginFlush();
                }

                if (job.IsDone)
                {
                    Release(job);
                }
            }
        }
#pragma warning disable CA1031 // rethrown on the caller's thread: the first failure is the one that counts
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(e), null);
            _stop.Cancel();
        }
    }

    private void Release(TensorJob job)
    {
        lock (_gate)
        {
            _resident -= job.ReleaseResident();
            Monitor.PulseAll(_gate);
        }
    }

    // Pieces are handed out in the order of the output, so that writes run forward. A target whose factors would not fit beside those
    // already loaded waits until an earlier one is done.
    private (TensorJob Job, int Piece)? Next()
    {
        lock (_gate)
        {
            while (_nextJob < _jobs.Length)
            {
                var job = _jobs[_nextJob];
                if (_nextPiece < job.Pieces)
                {
                    if (_nextPiece == 0 && _resident > 0 && _resident + job.ResidentBytes > _memory.ResidentBytes)
                    {
                        Monitor.Wait(_gate, ProgressInterval);
                        if (_stop.IsCancellationRequested)
                        {
                            return null;
                        }

                        continue;
                    }

                    _resident += _nextPiece == 0 ? job.ResidentBytes : 0;
                    _current = job;
                    return (job, _nextPiece++);
                }

                _nextJob++;
                _nextPiece = 0;
            }

            return null;
        }
    }
}
