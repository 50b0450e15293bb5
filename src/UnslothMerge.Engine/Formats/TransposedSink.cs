using UnslothMerge.Simd;

namespace UnslothMerge.Formats;

/// <summary>Writes stacked matrices [in, out] through a sink that stores them transposed, [out, in]; inputs are the rows of one.</summary>
internal sealed class TransposedSink(TensorSink sink, int inputs) : TensorSink
{
    private readonly TensorType _type = sink.RoundedType ?? TensorType.F32;

    // So many columns become rows at a time.
    private readonly int _panelRows = Math.Max(64, sink.RowQuantum);

    public override IReadOnlyList<TensorSpec> Outputs => sink.Outputs;

    public override IReadOnlyList<DeferredSpec> Deferred => sink.Deferred;

    public override string Format => sink.Format;

    public override bool IsQuantized => sink.IsQuantized;

    public override string? SurveySet => sink.SurveySet;

    public override int RowQuantum => inputs;

    public override long ResidentBytes => sink.ResidentBytes;

    public override long BytesOf(MatrixView view, int rows) => sink.BytesOf(view, rows);

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output)
    {
        var stored = new MatrixView(view.Rows / inputs * view.Columns, inputs);
        return new Writer(this, sink, sink.Open(files, stored, output), stored, view);
    }

    // Values are rounded to what the other sink rounds to, at the beginning of its buffer, row after row.
    private sealed class Writer(TransposedSink all, TensorSink sink, TensorWriter writer, MatrixView stored, MatrixView view)
        : RoundingWriter(all._type, view)
    {
        private delegate void Visit(long row, int rows, Span<byte> encoded);

        public override IReadOnlyDictionary<string, SurveyedRange> Surveyed => writer.Surveyed;

        public override void Survey(long row, int rows, Span<byte> encoded) => EachPanel(row, rows, encoded, writer.Survey);

        public override void Begin(IReadOnlyDictionary<string, SurveyedRange> found) => writer.Begin(found);

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var sums = statistics;
            EachPanel(row, rows, encoded, (first, count, panel) => writer.Write(first, count, panel, ref sums));
            statistics = sums;
        }

        public override IReadOnlyList<byte[]> Finish() => writer.Finish();

        public override void Dispose()
        {
            writer.Dispose();
            base.Dispose();
        }

        private void EachPanel(long row, int rows, Span<byte> encoded, Visit visit)
        {
            var inputs = stored.Columns;
            var buffer = ArrayPool<byte>.Shared.Rent((int)sink.BytesOf(stored, all._panelRows));
            for (var matrix = 0; matrix < rows / inputs; matrix++)
            {
                var values = encoded.Slice(matrix * inputs * View.Columns * Width, inputs * View.Columns * Width);
                for (var column = 0; column < View.Columns; column += all._panelRows)
                {
                    var count = Math.Min(all._panelRows, View.Columns - column);
                    if (Width == sizeof(float))
                    {
                        Transpose<float>(values, column, count, buffer);
                    }
                    else
                    {
                        Transpose<ushort>(values, column, count, buffer);
                    }

                    visit(
                        ((row / inputs) + matrix) * View.Columns + column, count, buffer.AsSpan(0, (int)sink.BytesOf(stored, count)));
                }
            }

            ArrayPool<byte>.Shared.Return(buffer);
        }

        private void Transpose<T>(ReadOnlySpan<byte> values, int column, int count, Span<byte> buffer)
            where T : struct
        {
            var matrix = MemoryMarshal.Cast<byte, T>(values);
            var panel = MemoryMarshal.Cast<byte, T>(buffer);
            for (var i = 0; i < stored.Columns; i++)
            {
                var row = matrix.Slice((i * View.Columns) + column, count);
                for (var k = 0; k < row.Length; k++)
                {
                    panel[(k * stored.Columns) + i] = row[k];
                }
            }
        }
    }
}
