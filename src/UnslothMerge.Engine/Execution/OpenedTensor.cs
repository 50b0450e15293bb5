using UnslothMerge.Adapters;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>A tensor that is open for merging: what its pieces share, and how one is computed.</summary>
internal sealed class OpenedTensor : IDisposable
{
    /// <summary>Deltas larger than this trigger a garbage collection before the next tensor's are loaded.</summary>
    private const long GarbageBytes = 32 * 1024 * 1024;

    private readonly WriteTensor _write;

    // Merges to F32; writes nothing.
    private readonly TensorWriter _exact;

    public OpenedTensor(WriteTensor write, InputFiles files, IOutput output, int workers)
    {
        _write = write;
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
            _exact = new PlainSink(write.Tensor.Name, TensorType.F32, write.Tensor.Shape).Open(files, write.Tensor.View, output);
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

    /// <summary>The number of pieces that a tensor is cut into.</summary>
    public static int PiecesOf(WriteTensor write) => checked((int)((write.Tensor.View.Rows + write.Tiling.Rows - 1) / write.Tiling.Rows));

    /// <summary>The rows of a piece.</summary>
    public static (long Row, int Rows) RowsOf(WriteTensor write, int piece)
    {
        var row = (long)piece * write.Tiling.Rows;
        return (row, (int)Math.Min(write.Tiling.Rows, write.Tensor.View.Rows - row));
    }

    /// <summary>The encoded rows of a piece, in the buffers.</summary>
    public Span<byte> Merge(long row, int rows, WorkerBuffers buffers, out TileStatistics statistics)
    {
        var encoded = buffers.Take(_write.Tiling.Memory.Source, _write.Sink.BytesOf(_write.Tensor.View, rows));
        Merge(Writer, row, rows, buffers, encoded, out statistics);
        return encoded;
    }

    private void Merge(
        TensorWriter writer, long row, int rows, WorkerBuffers buffers, Span<byte> encoded, out TileStatistics statistics)
    {
        var (tensor, tiling, memory) = (_write.Tensor, _write.Tiling, _write.Tiling.Memory);
        var view = tensor.View;
        var stored = buffers.Take(0, tensor.Source.BytesOf(view, rows));
        Reader.Read(row, rows, stored);
        var deltas = PieceDeltas.Read(Deltas, tensor, row, rows, buffers, memory.Source + memory.Sink);
        var piece = new Piece(Reader, tiling.IsFused ? tensor.Source.PlainType : null, stored, row, rows, deltas);
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
    }

    /// <summary>Adds what quantizing leaves of the deltas of a piece, in F32: ⟨Q(W+Δ) − Q(W), Δ⟩ and ‖Δ‖². Small deltas fall between two
    /// codes. Uses the buffers.</summary>
    public void MeasureSurvival(long row, int rows, WorkerBuffers buffers, ref TileStatistics statistics)
    {
        var (source, view, memory) = (_write.Tensor.Source, _write.Tensor.View, _write.Tiling.Memory);
        var count = rows * view.Columns;
        var planes = buffers.TakeFloats(memory.Worker - memory.Measured, 3 * count);
        var before = planes[..count];
        var after = planes.Slice(count, count);
        var delta = planes[(2 * count)..];
        Merge(_exact, row, rows, buffers, MemoryMarshal.AsBytes(after), out _);
        Reader.Decode(buffers.Take(0, source.BytesOf(view, rows)), row, rows, new Tile(before, default, row, rows, 0, view.Columns));
        TensorPrimitives.Subtract(after, before, delta);
        Writer.RoundTrip(row, rows, before);
        Writer.RoundTrip(row, rows, after);

        // In one order and in double, whatever the width of vectors.
        var (kept, whole) = (0.0, 0.0);
        for (var i = 0; i < count; i++)
        {
            kept += ((double)after[i] - before[i]) * delta[i];
            whole += (double)delta[i] * delta[i];
        }

        statistics.KeptDelta += kept;
        statistics.MeasuredDelta += whole;
    }

    public void Dispose()
    {
        Reader.Dispose();
        Writer.Dispose();
        Array.ForEach(Deltas, d => d.Dispose());
    }
}
