using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;

namespace UnslothMerge.Execution;

/// <summary>Shows a term the rows that it must have seen before it can be applied, with what the terms before it add.</summary>
internal sealed class ScanningContext(
    InputFiles files, WriteTensor write, double factor, TensorReader reader, ReadOnlyMemory<DeltaReader> before, int workers)
    : DeltaContext(files, write.Tensor.View, factor)
{
    public override int Workers => workers;

    public override void Scan(TileVisitor visitor)
    {
        var tensor = write.Tensor;
        var rows = write.Tiling.Rows;
        var values = rows * View.Columns;
        using var source = new NativeBuffer(tensor.Source.BytesOf(View, rows));
        using var planes = new NativeBuffer(2L * values * sizeof(float));
        var buffers = new NativeBuffer[before.Length];
        try
        {
            for (var i = 0; i < buffers.Length; i++)
            {
                buffers[i] = new NativeBuffer(tensor.Terms[i].Term.BytesOf(rows));
            }

            for (var row = 0L; row < View.Rows; row += rows)
            {
                var count = (int)Math.Min(rows, View.Rows - row);
                var tile = new Tile(planes.Floats[..(count * View.Columns)], planes.Floats.Slice(values, count * View.Columns), row, count,
                    0, View.Columns);
                var stored = source.Bytes[..(int)tensor.Source.BytesOf(View, count)];
                reader.Read(row, count, stored);
                reader.Decode(stored, row, count, tile);
                tile.Delta.Clear();
                for (var i = 0; i < buffers.Length; i++)
                {
                    if (tensor.Terms[i].Term is var term && term.Changes(row, count))
                    {
                        var bytes = buffers[i].Bytes[..(int)term.BytesOf(count)];
                        before.Span[i].Read(row, count, bytes);
                        before.Span[i].Apply(bytes, row, tile);
                    }
                }

                visitor(tile);
            }
        }
        finally
        {
            foreach (var buffer in buffers)
            {
                buffer?.Dispose();
            }
        }
    }
}
