using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>One tensor in work: cut into pieces that threads take in any order. What all of them share is released after the last one. The
/// resident bytes are those that its deltas hold until then.</summary>
internal abstract class TensorWork(WriteTensor write, ShardOutput output, WriteShard shard, long pieces, long residentBytes) : IDisposable
{
    private readonly TileStatistics[] _statistics = new TileStatistics[write.Verbatim is null ? pieces : 0];
    private IReadOnlyList<byte[]> _deferred = [];
    private int _unfinished = checked((int)pieces);
    private int _released;
    private int _disposed;

    public LogicalTensor Tensor => write.Tensor;

    /// <summary>The shard that it is written to.</summary>
    public WriteShard Shard => shard;

    public int Pieces { get; } = checked((int)pieces);

    /// <summary>The bytes that its deltas hold while it is in work.</summary>
    public long ResidentBytes => residentBytes;

    /// <summary>True once every piece is done.</summary>
    public bool IsDone => Volatile.Read(ref _unfinished) == 0;

    /// <summary>What became of it, once every piece is done.</summary>
    public TensorResult Result
    {
        get
        {
            // Summed in the order of the pieces, whoever worked on them: the same figure every time.
            var all = default(TileStatistics);
            foreach (var piece in _statistics)
            {
                all.Add(piece);
            }

            var changed = write.Tensor.Terms.Length > 0;
            return new TensorResult(write, write.Sink.Outputs[0].Type, write.Bytes,
                changed ? Ratio(all.DeltaSquares, all.WeightSquares) : null, _deferred)
            {
                RelativeError = write.Sink.IsQuantized && write.Verbatim is null ? Ratio(all.ErrorSquares, all.ValueSquares) : null,
            };

            static double Ratio(double part, double whole) => part == 0 ? 0 : Math.Sqrt(part / whole);
        }
    }

    /// <summary>Where its outputs are written.</summary>
    protected ShardOutput Output => output;

    /// <summary>Lets the disk begin with what was written to the shard.</summary>
    public void BeginFlush() => Output.Writer.BeginFlush();

    /// <summary>The bytes that it no longer holds; counted once.</summary>
    public long ReleaseResident() => Interlocked.Exchange(ref _released, 1) == 0 ? residentBytes : 0;

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

    /// <summary>Keeps the statistics of a piece.</summary>
    protected void Record(int piece, TileStatistics statistics) => _statistics[piece] = statistics;

    /// <summary>Counts a piece as done; after the last one finishes the writer and disposes.</summary>
    protected void Done(TensorWriter? writer)
    {
        if (Interlocked.Decrement(ref _unfinished) == 0 && writer is not null)
        {
            _deferred = writer.Finish();
            Dispose();
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
