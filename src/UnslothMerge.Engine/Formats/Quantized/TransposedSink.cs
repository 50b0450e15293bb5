using UnslothMerge.IO;
using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Writes stacked matrices [in, out] through a sink that stores them transposed, [out, in]; inputs are the rows of one.</summary>
internal sealed class TransposedSink(GridSink sink, int inputs) : TensorSink
{
    // So many columns become rows at a time.
    private const int PanelRows = 64;

    public override IReadOnlyList<TensorSpec> Outputs => sink.Outputs;

    public override string Format => sink.Format;

    public override bool IsQuantized => sink.IsQuantized;

    public override int RowQuantum => inputs;

    public override long ResidentBytes => sink.ResidentBytes;

    public override long BytesOf(MatrixView view, int rows) => sink.BytesOf(view, rows);

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) =>
        new Writer(sink.Open(files, new MatrixView(view.Rows / inputs * view.Columns, inputs), output), inputs, view);

    private sealed class Writer(TensorWriter writer, int inputs, MatrixView view) : TensorWriter
    {
        public override void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics) =>
            GridSink.Combine(tile, row, view, encoded, ref statistics);

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var values = MemoryMarshal.Cast<byte, float>(encoded);
            var buffer = ArrayPool<byte>.Shared.Rent(PanelRows * inputs * (sizeof(float) + 1));
            var panel = MemoryMarshal.Cast<byte, float>(buffer.AsSpan());
            for (var matrix = 0; matrix < rows / inputs; matrix++)
            {
                for (var column = 0; column < view.Columns; column += PanelRows)
                {
                    var count = Math.Min(PanelRows, view.Columns - column);
                    Transpose(values.Slice(matrix * inputs * view.Columns, inputs * view.Columns), column, count, panel);
                    writer.Write(
                        ((row / inputs) + matrix) * view.Columns + column, count, buffer.AsSpan(0, count * inputs * (sizeof(float) + 1)),
                        ref statistics);
                }
            }

            ArrayPool<byte>.Shared.Return(buffer);
        }

        public override IReadOnlyList<byte[]> Finish() => writer.Finish();

        protected override void Dispose(bool disposing)
        {
            writer.Dispose();
            base.Dispose(disposing);
        }

        private void Transpose(ReadOnlySpan<float> matrix, int column, int count, Span<float> panel)
        {
            for (var i = 0; i < inputs; i++)
            {
                var row = matrix.Slice((i * view.Columns) + column, count);
                for (var k = 0; k < row.Length; k++)
                {
                    panel[(k * inputs) + i] = row[k];
                }
            }
        }
    }
}
