using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>A tensor that the cores merge. The first worker loads what all pieces share: the packed factors of its deltas.</summary>
internal sealed class MergeJob : CoreJob
{
    /// <summary>Deltas larger than this trigger a garbage collection before the next tensor's are loaded.</summary>
    private const long GarbageBytes = 32 * 1024 * 1024;

    private readonly WriteTensor _write;
    private readonly Lazy<Opened> _opened;
    private readonly CountdownEvent _surveys;

    public MergeJob(WriteTensor write, ShardOutput output, InputFiles files, int workers)
        : base(write, output, PiecesOf(write) * (write.Sink.NeedsSurvey ? 2 : 1), TensorNeeds.ResidentOf(write, workers))
    {
        _write = write;
        _opened = new Lazy<Opened>(() => new Opened(write, files, output, workers));
        _surveys = new CountdownEvent(write.Sink.NeedsSurvey ? PiecesOf(write) : 0);
    }

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var written = piece < _surveys.InitialCount ? Survey(piece, buffers) : Write(piece - _surveys.InitialCount, buffers, stop);
        Done(_opened.Value.Writer);
        return written;
    }

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
        var (row, rows) = RowsOf(piece);
        _opened.Value.Writer.Survey(row, rows, Merge(row, rows, buffers, out _));
        _surveys.Signal();
        return 0;
    }

    // Pieces are taken in order: other workers already process those that this one waits for.
    private long Write(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        _surveys.Wait(stop);
        var (row, rows) = RowsOf(piece);
        var encoded = Merge(row, rows, buffers, out var statistics);
        _opened.Value.Writer.Write(row, rows, encoded, ref statistics);
        Record(piece, statistics);
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    private static int PiecesOf(WriteTensor write) => checked((int)((write.Tensor.View.Rows + write.Tiling.Rows - 1) / write.Tiling.Rows));

    private (long Row, int Rows) RowsOf(int piece)
    {
        var row = (long)piece * _write.Tiling.Rows;
        return (row, (int)Math.Min(_write.Tiling.Rows, Tensor.View.Rows - row));
    }

    private Span<byte> Merge(long row, int rows, WorkerBuffers buffers, out TileStatistics statistics)
    {
        var (view, tiling, memory) = (Tensor.View, _write.Tiling, _write.Tiling.Memory);
        var (reader, writer) = (_opened.Value.Reader, _opened.Value.Writer);
        var stored = buffers.Take(0, Tensor.Source.BytesOf(view, rows));
        var encoded = buffers.Take(memory.Source, _write.Sink.BytesOf(view, rows));
        reader.Read(row, rows, stored);
        var deltas = PieceDeltas.Read(_opened.Value.Deltas, Tensor, row, rows, buffers, memory.Source + memory.Sink);
        var piece = new Piece(reader, tiling.IsFused ? Tensor.Source.PlainType : null, stored, row, rows, deltas);
        var planes = memory.Source + memory.Sink + memory.Terms;
        statistics = default;
        for (var firstRow = 0; firstRow < rows; firstRow += tiling.TileRows)
        {
            for (var column = 0; column < view.Columns; column += tiling.TileColumns)
            {
                var (height, width) = (Math.Min(tiling.TileRows, rows - firstRow), Math.Min(tiling.TileColumns, view.Columns - column));
                var tile = new Tile(
                    tiling.IsFused ? default : buffers.TakeFloats(planes + tiling.PlaneBytes, height * width),
                    deltas.IsEmpty ? default : buffers.TakeFloats(planes, height * width),
                    row + firstRow,
                    height,
                    column,
                    width);
                writer.Merge(piece, tile, encoded, ref statistics);
            }
        }

        RequireFinite(statistics);
        return encoded;
    }

    /// <summary>What the pieces of a tensor share.</summary>
    private sealed class Opened : IDisposable
    {
        public Opened(WriteTensor write, InputFiles files, ShardOutput output, int workers)
        {
            var terms = write.Tensor.Terms;
            if (terms.Sum(t => t.Term.ResidentBytes) > GarbageBytes && terms.Any(t => t.Term.Reach == DeltaReach.WholeTensor))
            {
                // The previous tensor's arrays must be gone before this one's are allocated.
                GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
            }

            var opened = new List<IDisposable>();
            try
            {
                Reader = write.Tensor.Source.Open(files, write.Tensor.View);
                opened.Add(Reader);
                Deltas = new DeltaReader[terms.Length];
                for (var i = 0; i < Deltas.Length; i++)
                {
                    Deltas[i] = terms[i].Term.Open(new ScanningContext(
                        files, write, terms[i].Weight, Reader, Deltas.AsMemory(0, i), workers));
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
            Array.ForEach(Deltas, d => d.Dispose());
        }
    }
}
