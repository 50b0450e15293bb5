namespace UnslothMerge.Execution;

/// <summary>Hands out the pieces of some tensors in the order of the output, so that writes run forward. A tensor whose factors would not
/// fit into <paramref name="residentBytes"/> beside those already loaded waits until an earlier one is done.</summary>
internal sealed class WorkQueue<T>(ImmutableArray<T> works, long residentBytes)
    where T : TensorWork
{
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(100);

    private readonly object _gate = new();
    private readonly Stack<(T Work, int Piece)> _returned = [];
    private int _nextWork;
    private int _nextPiece;
    private long _resident;

    /// <summary>True if there are pieces that nobody has taken.</summary>
    public bool HasMore
    {
        get
        {
            lock (_gate)
            {
                return _returned.Count > 0 || works.Skip(_nextWork).Sum(w => (long)w.Pieces) > _nextPiece;
            }
        }
    }

    /// <summary>Takes the next piece; null if there is none, or the run was stopped while waiting for it.</summary>
    public (T Work, int Piece)? Next(CancellationToken stop)
    {
        lock (_gate)
        {
            while (_returned.Count > 0 || _nextWork < works.Length)
            {
                if (_returned.TryPop(out var returned))
                {
                    return returned;
                }

                var work = works[_nextWork];
                if (_nextPiece < work.Pieces)
                {
                    if (_nextPiece == 0 && _resident > 0 && _resident + work.ResidentBytes > residentBytes)
                    {
                        Monitor.Wait(_gate, Patience);
                        if (stop.IsCancellationRequested)
                        {
                            return null;
                        }

                        continue;
                    }

                    _resident += _nextPiece == 0 ? work.ResidentBytes : 0;
                    return (work, _nextPiece++);
                }

                _nextWork++;
                _nextPiece = 0;
            }

            return null;
        }
    }

    /// <summary>Gives back a piece that could not be done, for whoever asks next.</summary>
    public void Return(T work, int piece)
    {
        lock (_gate)
        {
            _returned.Push((work, piece));
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Takes note that a tensor is done.</summary>
    public void Release(T work)
    {
        lock (_gate)
        {
            _resident -= work.ReleaseResident();
            Monitor.PulseAll(_gate);
        }
    }
}
