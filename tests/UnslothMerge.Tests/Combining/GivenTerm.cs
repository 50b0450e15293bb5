using System.Numerics.Tensors;

namespace UnslothMerge.Tests.Combining;

/// <summary>A delta that is just there.</summary>
internal sealed class GivenTerm(float[] values, int columns) : DeltaTerm("Given", [])
{
    public override long ResidentBytes => 0;

    public override long BytesOf(int rows) => (long)rows * columns * sizeof(float);

    public override DeltaReader Open(DeltaContext context) => new Reader(values, columns, context.Factor);

    private sealed class Reader(float[] values, int columns, double factor) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
            var floats = MemoryMarshal.Cast<byte, float>(buffer);
            Assert.Equal(rows * columns, floats.Length);
            for (var i = 0; i < floats.Length; i++)
            {
                floats[i] = (float)(values[(row * columns) + i] * factor);
            }
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var floats = MemoryMarshal.Cast<byte, float>(buffer);
            for (var i = 0; i < tile.Rows; i++)
            {
                var delta = tile.DeltaRow(i);
                TensorPrimitives.Add(delta, floats.Slice((int)((tile.Row - row + i) * columns) + tile.Column, tile.Columns), delta);
            }
        }
    }
}

/// <summary>A target of zeros that is shown in tiles of a given height.</summary>
internal sealed class GivenContext(InputFiles files, MatrixView view, double factor, int height) : DeltaContext(files, view, factor)
{
    public override int Workers => 1;

    public override void Scan(TileVisitor visitor)
    {
        for (var row = 0L; row < View.Rows; row += height)
        {
            var rows = (int)Math.Min(height, View.Rows - row);
            visitor(new Tile(new float[rows * View.Columns], new float[rows * View.Columns], row, rows, 0, View.Columns));
        }
    }
}
