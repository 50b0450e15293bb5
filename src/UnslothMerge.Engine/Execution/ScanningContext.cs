using UnslothMerge.Adapters;

namespace UnslothMerge.Execution;

/// <summary>Passes the rows that a term must read before it can be applied to it, with the deltas of the terms before it.</summary>
internal sealed class ScanningContext(
    InputFiles files, WriteTensor write, double factor, TensorReader reader, ReadOnlyMemory<DeltaReader> before, int workers)
    : DeltaContext(files, write.Tensor.View, factor)
{
    public override int Workers => workers;

    public override void Scan(TileVisitor visitor)
    {
        var (tensor, rows) = (write.Tensor, write.Tiling.Rows);
        var delta = CacheLine.Align((long)rows * View.Columns * sizeof(float));
        var source = 2 * delta;
        var terms = source + CacheLine.Align(tensor.Source.BytesOf(View, rows));
        using var buffers = new WorkerBuffers(terms + tensor.Terms.Take(before.Length).Sum(t => CacheLine.Align(t.Term.BytesOf(rows))));
        for (var row = 0L; row < View.Rows; row += rows)
        {
            var count = (int)Math.Min(rows, View.Rows - row);
            var values = count * View.Columns;
            var tile = new Tile(buffers.TakeFloats(0, values), buffers.TakeFloats(delta, values), row, count, 0, View.Columns);
            var stored = buffers.Take(source, tensor.Source.BytesOf(View, count));
            reader.Read(row, count, stored);
            reader.Decode(stored, row, count, tile);
            tile.Delta.Clear();
            PieceDeltas.Read(before.Span, tensor, row, count, buffers, terms).AddTo(tile);
            visitor(tile);
        }
    }
}
