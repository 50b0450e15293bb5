using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>One tensor that the cores merge. What all pieces share (the packed factors of its deltas) is loaded by the first worker.</summary>
internal sealed class TensorJob : CoreJob
{
    /// <summary>What a tensor may leave to the garbage collector without being swept up after.</summary>
    private const long LitterBytes = 32 * 1024 * 1024;

    private readonly WriteTensor _write;
    private readonly Lazy<Opened> _opened;
    private readonly RowBlocks? _blocks;
    private readonly int _surveys;
    private readonly CountdownEvent _unseen;
    private readonly PlainCombiner? _combine;
    private readonly int _sourceWidth;
    private readonly int _sinkWidth;

    public TensorJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files, int workers)
        : this(write, output, shard, files, workers, BlocksOf(write, output))
    {
    }

    private TensorJob(WriteTensor write, ShardOutput output, WriteShard shard, InputFiles files, int workers, RowBlocks? blocks)
        : base(write, output, shard, PiecesOf(write, blocks) * (write.Sink.NeedsSurvey ? 2 : 1), MemoryPlan.ResidentOf(write, workers))
    {
        _write = write;
        _blocks = blocks;
        _surveys = write.Sink.NeedsSurvey ? Pieces / 2 : 0;
        _unseen = new CountdownEvent(_surveys);
        if (write.Tiling.IsDirect)
        {
            var (from, to) = (write.Tensor.Source.PlainType!.Value, write.Sink.RoundedType!.Value);
            (_combine, _sourceWidth, _sinkWidth) = (PlainFormat.Combiner(from, to), from.Bits() / 8, to.Bits() / 8);
        }

        _opened = new Lazy<Opened>(() => new Opened(write, files, output, workers));
    }

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var written = piece < _surveys ? Survey(piece, buffers) : Write(piece - _surveys, buffers, stop);
        Done(_opened.Value.Writer);
        return written;
    }

    protected override void GiveBack()
    {
        _unseen.Dispose();
        if (_opened.IsValueCreated)
        {
            _opened.Value.Dispose();
        }
    }

    private long Survey(int piece, WorkerBuffers buffers)
    {
        var (row, rows) = RowsOf(piece);
        _opened.Value.Writer.Survey(row, rows, Merge(row, rows, buffers, out _));
        _unseen.Signal();
        return 0;
    }

    // Pieces are handed out in order: those that this one waits for are in the hands of other workers already.
    private long Write(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        _unseen.Wait(stop);
        var (row, rows) = RowsOf(piece);
        var encoded = Merge(row, rows, buffers, out var statistics);
        if (_blocks is null)
        {
            _opened.Value.Writer.Write(row, rows, encoded, ref statistics);
        }
        else
        {
            _blocks.Write(piece, buffers.Take(_write.Tiling.SinkStart, _write.Tiling.RoomBytes + encoded.Length), _write.Tiling.RoomBytes);
        }

        Record(piece, statistics);
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    private static RowBlocks? BlocksOf(WriteTensor write, ShardOutput output)
    {
        var (view, tiling) = (write.Tensor.View, write.Tiling);
        return tiling.BlockBytes == 0 ? null : new RowBlocks(output, output.Offsets[0], view.Rows, write.Sink.BytesOf(view, 1), tiling.RowQuantum, tiling.BlockBytes);
    }

    private static long PiecesOf(WriteTensor write, RowBlocks? blocks) => blocks?.Pieces ?? (write.Tensor.View.Rows + write.Tiling.Rows - 1) / write.Tiling.Rows;

    private (long Row, int Rows) RowsOf(int piece)
    {
        if (_blocks is not null)
        {
            return _blocks.RowsOf(piece);
        }

        var row = (long)piece * _write.Tiling.Rows;
        return (row, (int)Math.Min(_write.Tiling.Rows, Tensor.View.Rows - row));
    }

    private Span<byte> Merge(long row, int rows, WorkerBuffers buffers, out TileStatistics statistics)
    {
        var (reader, deltas, writer) = (_opened.Value.Reader, _opened.Value.Deltas, _opened.Value.Writer);
        var (view, tiling) = (Tensor.View, _write.Tiling);
        var source = buffers.Take(tiling.IsInPlace ? tiling.RoomBytes : 0, Tensor.Source.BytesOf(view, rows));
        var encoded = tiling.IsInPlace ? source : buffers.Take(tiling.SinkStart + tiling.RoomBytes, _write.Sink.BytesOf(view, rows));

        reader.Read(row, rows, source);
        var touching = Touching(deltas, row, rows);
        foreach (var (delta, start, length) in touching)
        {
            delta.Read(row, rows, buffers.Take(start, length));
        }

        var change = tiling.SourceBytes + tiling.SinkBytes + tiling.TermBytes;
        statistics = default;
        for (var firstRow = 0; firstRow < rows; firstRow += tiling.TileRows)
        {
            for (var column = 0; column < view.Columns; column += tiling.TileColumns)
            {
                var (height, width) = (Math.Min(tiling.TileRows, rows - firstRow), Math.Min(tiling.TileColumns, view.Columns - column));
                var tile = new Tile(
                    tiling.IsDirect ? default : buffers.TakeFloats(change + tiling.PlaneBytes, height * width),
                    touching.Count == 0 ? default : buffers.TakeFloats(change, height * width),
                    row + firstRow,
                    height,
                    column,
                    width);
                if (_combine is null)
                {
                    reader.Decode(source, row, rows, tile);
                    Apply(touching, row, tile, buffers);
                    writer.Encode(tile, row, encoded, ref statistics);
                }
                else
                {
                    Apply(touching, row, tile, buffers);
                    var first = (firstRow * view.Columns) + column;
                    _combine(source[(first * _sourceWidth)..], tile.Delta, encoded[(first * _sinkWidth)..], height, width, view.Columns, view.Columns, ref statistics);
                }
            }
        }

        RequireFinite(statistics);
        return encoded;
    }

    private static void Apply(List<Touch> touching, long row, Tile tile, WorkerBuffers buffers)
    {
        for (var i = 0; i < touching.Count; i++)
        {
            var (delta, start, length) = touching[i];
            if (i == 0)
            {
                delta.Begin(buffers.Take(start, length), row, tile);
            }
            else
            {
                delta.Apply(buffers.Take(start, length), row, tile);
            }
        }
    }

    // The deltas that change some of a piece's rows, and where each has what it needs for them.
    private List<Touch> Touching(DeltaReader[] deltas, long row, int rows)
    {
        var touching = new List<Touch>(deltas.Length);
        var start = _write.Tiling.SourceBytes + _write.Tiling.SinkBytes;
        for (var i = 0; i < deltas.Length; i++)
        {
            var term = Tensor.Terms[i].Term;
            if (term.Touches(row, rows))
            {
                var length = term.BytesOf(rows);
                touching.Add(new Touch(deltas[i], start, length));
                start += CacheLine.Align(length);
            }
        }

        return touching;
    }

    /// <summary>A delta that changes some of a piece's rows, and where in the worker's memory is what it needs for them.</summary>
    private sealed record Touch(DeltaReader Delta, long Start, long Length);

    /// <summary>What the pieces of a tensor share.</summary>
    private sealed class Opened : IDisposable
    {
        public Opened(WriteTensor write, InputFiles files, ShardOutput output, int workers)
        {
            if (write.Tensor.Terms.Sum(t => t.Term.ResidentBytes) > LitterBytes && write.Tensor.Terms.Any(t => t.Term.Reach == DeltaReach.WholeTensor))
            {
                // What the tensor before it worked with must not be held beside what this one needs.
                GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
            }

            var opened = new List<IDisposable>();
            try
            {
                Reader = write.Tensor.Source.Open(files, write.Tensor.View);
                opened.Add(Reader);
                Deltas = new DeltaReader[write.Tensor.Terms.Length];
                for (var i = 0; i < Deltas.Length; i++)
                {
                    var (term, _, weight) = write.Tensor.Terms[i];
                    Deltas[i] = term.Open(new ScanningContext(files, write, weight, Reader, Deltas.AsMemory(0, i), workers));
                    opened.Add(Deltas[i]);
                }

                Writer = write.Sink.Open(files, write.Tensor.View, output);
            }
            catch
            {
                opened.ForEach(o => o.Dispose());
                throw;
            }
        }

        public TensorReader Reader { get; }

        public DeltaReader[] Deltas { get; }

        public TensorWriter Writer { get; }

        public void Dispose()
        {
            Reader.Dispose();
            Writer.Dispose();
            foreach (var delta in Deltas)
            {
                delta.Dispose();
            }
        }
    }
}
