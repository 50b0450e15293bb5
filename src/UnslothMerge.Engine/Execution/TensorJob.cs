using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>The processing of one tensor, in pieces that threads take in any order. What they share is released after the last piece; until
/// then the deltas hold <see cref="ResidentBytes"/>.</summary>
internal abstract class TensorJob(WriteTensor write, OpenShard shard, long pieces, long residentBytes) : IDisposable
{
    private readonly TileStatistics[] _statistics = write.Verbatim is null ? new TileStatistics[pieces] : [];
    private IReadOnlyList<byte[]> _deferred = [];
    private int _unfinished = checked((int)pieces);
    private bool _done;
    private int _ended;
    private int _disposed;

    public LogicalTensor Tensor => write.Tensor;

    /// <summary>The shard that it is written into.</summary>
    public OpenShard Shard => shard;

    public int Pieces { get; } = checked((int)pieces);

    public long ResidentBytes => residentBytes;

    /// <summary>Valid once every piece is done.</summary>
    public TensorResult Result
    {
        get
        {
            if (write.Verbatim is not null)
            {
                return new TensorResult(write);
            }

            // Summed in the order of the pieces, so that the result does not depend on the threads.
            var all = default(TileStatistics);
            foreach (var piece in _statistics)
            {
                all.Add(piece);
            }

            var changed = write.Tensor.Terms.Length > 0;
            return new TensorResult(write)
            {
                Deferred = _deferred,
                Figures = new TensorFigures(
                    changed ? Ratio(all.DeltaSquares, all.WeightSquares) : null,
                    write.Sink.IsQuantized ? Ratio(all.ErrorSquares, all.ValueSquares) : null,
                    all.MeasuredDelta > 0 ? (all.KeptDelta, all.MeasuredDelta) : null),
            };

            static double Ratio(double part, double whole) => part == 0 ? 0 : Math.Sqrt(part / whole);
        }
    }

    /// <summary>True once: at the first call after every piece is done, and what follows them.</summary>
    public bool TryEnd() => Volatile.Read(ref _done) && Interlocked.Exchange(ref _ended, 1) == 0;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            Release();
        }
    }

    /// <summary>Releases what the pieces share, if it was loaded.</summary>
    protected virtual void Release()
    {
    }

    protected void Record(int piece, TileStatistics statistics) => _statistics[piece] = statistics;

    /// <summary>Completes the tensor after its last piece; gives the content of its deferred tensors.</summary>
    protected virtual IReadOnlyList<byte[]> Finish() => [];

    /// <summary>Counts a piece as done; after the last one, finishes and disposes.</summary>
    protected void Done()
    {
        if (Interlocked.Decrement(ref _unfinished) == 0)
        {
            _deferred = Finish();
            Dispose();
            Volatile.Write(ref _done, true);
        }
    }

    /// <summary>Refuses results that the output's dtype cannot hold.</summary>
    protected void RequireFinite(TileStatistics statistics)
    {
        if (statistics.NonFinite)
        {
            var type = write.Sink.Outputs[0].Type;
            throw new MergeException(
                MergeError.NonFiniteResult,
                $"'{Tensor.Name}' would hold values that {type} cannot: NaN, Inf, or numbers beyond its range.",
                Tensor.Name,
                type == TensorType.F16
                    ? "Save with -DType bfloat16 or float32, whose range is larger." : "Check the base and the adapter for NaN and Inf.");
        }
    }
}
