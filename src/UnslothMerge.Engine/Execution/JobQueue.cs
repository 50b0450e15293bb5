namespace UnslothMerge.Execution;

/// <summary>Returns the pieces of some tensors in the order of the output, so that writes are sequential. A tensor whose factors do not fit
/// into <paramref name="residentBytes"/> beside those already loaded waits until an earlier tensor is done.</summary>
internal sealed class JobQueue<T>(ImmutableArray<T> jobs, long residentBytes)
    where T : TensorJob
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(100);

    private readonly object _gate = new();
    private readonly Stack<(T Job, int Piece)> _returned = [];
    private int _nextJob;
    private int _nextPiece;
    private long _resident;

    public bool IsEmpty
    {
        get
        {
            lock (_gate)
            {
                return _returned.Count == 0 && jobs.Skip(_nextJob).Sum(j => (long)j.Pieces) <= _nextPiece;
            }
        }
    }

    /// <summary>Takes the next piece; null if there is none, or the run was stopped while waiting for it.</summary>
    public (T Job, int Piece)? Next(CancellationToken stop)
    {
        lock (_gate)
        {
            while (_returned.Count > 0 || _nextJob < jobs.Length)
            {
                if (_returned.TryPop(out var returned))
                {
                    return returned;
                }

                var job = jobs[_nextJob];
                if (_nextPiece == job.Pieces)
                {
                    (_nextJob, _nextPiece) = (_nextJob + 1, 0);
                }
                else if (_nextPiece == 0 && _resident > 0 && _resident + job.ResidentBytes > residentBytes)
                {
                    Monitor.Wait(_gate, PollInterval);
                    if (stop.IsCancellationRequested)
                    {
                        return null;
                    }
                }
                else
                {
                    _resident += _nextPiece == 0 ? job.ResidentBytes : 0;
                    return (job, _nextPiece++);
                }
            }

            return null;
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

    /// <summary>Releases the resident bytes of a tensor that is done.</summary>
    public void Release(T job)
    {
        lock (_gate)
        {
            _resident -= job.ResidentBytes;
            Monitor.PulseAll(_gate);
        }
    }
}
