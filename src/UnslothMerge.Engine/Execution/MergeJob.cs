using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>A tensor that the cores merge. The first worker loads what all pieces share: the packed factors of its deltas.</summary>
internal sealed class MergeJob : CoreJob
{
    private readonly WriteTensor _write;
    private readonly Lazy<OpenedTensor> _opened;
    private readonly CountdownEvent _surveys;
    private readonly Lock _gate = new();
    private SharedSurvey? _shared;

    public MergeJob(WriteTensor write, OpenShard shard, InputFiles files, SharedSurvey? shared, int workers)
        : base(write, shard, OpenedTensor.PiecesOf(write) * (write.Sink.NeedsSurvey ? 2 : 1), TensorNeeds.ResidentOf(write, workers))
    {
        (_write, _shared) = (write, shared);
        _opened = new Lazy<OpenedTensor>(() => new OpenedTensor(write, files, shard.OutputOf(write), workers));
        _surveys = new CountdownEvent(write.Sink.NeedsSurvey ? OpenedTensor.PiecesOf(write) : 0);
    }

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var written = piece < _surveys.InitialCount ? Survey(piece, buffers) : Write(piece - _surveys.InitialCount, buffers, stop);
        Done();
        return written;
    }

    protected override IReadOnlyList<byte[]> Finish() => _opened.Value.Writer.Finish();

    protected override void Release()
    {
        _surveys.Dispose();
        if (_opened.IsValueCreated)
        {
            _opened.Value.Dispose();
        }
    }

    private long Survey(int piece, WorkerBuffers buffers)
    {
        var (row, rows) = OpenedTensor.RowsOf(_write, piece);
        _opened.Value.Writer.Survey(row, rows, Merge(row, rows, buffers, out _));
        _surveys.Signal();
        return 0;
    }

    // Pieces are taken in order: other workers already process those that this one waits for.
    private long Write(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        _surveys.Wait(stop);
        Begin(stop);
        var (row, rows) = OpenedTensor.RowsOf(_write, piece);
        var encoded = Merge(row, rows, buffers, out var statistics);
        if (_write.MeasuresPiece(piece))
        {
            _opened.Value.MeasureSurvival(row, Math.Min(rows, _write.Tiling.MeasuredRows), buffers, ref statistics);
        }

        _opened.Value.Writer.Write(row, rows, encoded, ref statistics);
        Record(piece, statistics);
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    // The first worker tells the writer what the surveys of all tensors of its set found.
    private void Begin(CancellationToken stop)
    {
        lock (_gate)
        {
            if (_shared is not null)
            {
                _opened.Value.Writer.Begin(_shared.Wait(stop));
                _shared = null;
            }
        }
    }

    private Span<byte> Merge(long row, int rows, WorkerBuffers buffers, out TileStatistics statistics)
    {
        var encoded = _opened.Value.Merge(row, rows, buffers, out statistics);
        RequireFinite(statistics);
        return encoded;
    }
}
