namespace UnslothMerge.Execution;

/// <summary>Returns the pieces of some tensors in the order of the output, so that writes are sequential. A tensor whose factors do not fit
/// into <paramref name="residentBytes"/> beside those already loaded waits until an earlier tensor is done. Jobs are made as they are
/// reached, and released once they are done.</summary>
internal sealed class JobQueue<T>(IEnumerable<T> jobs, long residentBytes) : IDisposable
    where T : TensorJob
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);

    private readonly object _gate = new();
    private readonly IEnumerator<T> _jobs = jobs.GetEnumerator();
    private readonly HashSet<T> _open = [];
    private readonly Stack<(T Job, int Piece)> _returned = [];
    private T? _current;
    private int _nextPiece;
    private long _resident;

    public bool IsEmpty
    {
        get
        {
            lock (_gate)
            {
                return _returned.Count == 0 && Current() is null;
            }
        }
    }

    /// <summary>Takes the next piece; null if there is none, or the run was stopped while waiting for it.</summary>
    public (T Job, int Piece)? Next(CancellationToken stop)
    {
        lock (_gate)
        {
            while (true)
            {
                if (_returned.TryPop(out var returned))
                {
                    return returned;
                }

                if (Current() is not { } job)
                {
                    return null;
                }

                if (_nextPiece > 0 || _resident == 0 || _resident + job.ResidentBytes <= residentBytes)
                {
                    _resident += _nextPiece == 0 ? job.ResidentBytes : 0;
                    return (job, _nextPiece++);
                }

                Monitor.Wait(_gate, PollInterval);
                if (stop.IsCancellationRequested)
                {
                    return null;
                }
            }
        }
    }

    /// <summary>Puts back a piece that failed, for another thread.</summary>
    public void Return(T job, int piece)
    {
        lock (_gate)
        {
            _returned.Push((job, piece));
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Releases a tensor that is done.</summary>
    public void Release(T job)
    {
        lock (_gate)
        {
            _open.Remove(job);
            _resident -= job.ResidentBytes;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Disposes of the jobs that are not done.</summary>
    public void Dispose()
    {
        _jobs.Dispose();
        foreach (var job in _open)
        {
            job.Dispose();
        }
    }

    // The job that has the next piece.
    private T? Current()
    {
        while (_current is null || _nextPiece == _current.Pieces)
        {
            if (!_jobs.MoveNext())
            {
                return null;
            }

            (_current, _nextPiece) = (_jobs.Current, 0);
            _open.Add(_current);
        }

        return _current;
    }
}
