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
        private readonly int _panelRows = all._panelRows;

        private delegate void Visit(long row, int rows, Span<byte> panel);

        public override IReadOnlyDictionary<string, SurveyedRange> Surveyed => writer.Surveyed;

        public override void Survey(long row, int rows, Span<byte> encoded) => EachPanel(row, rows, encoded, writer.Survey);

        public override void Begin(IReadOnlyDictionary<string, SurveyedRange> found) => writer.Begin(found);

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var sums = statistics;
            EachPanel(row, rows, encoded, (first, count, panel) => writer.Write(first, count, panel, ref sums));
            statistics = sums;
        }

        public override void RoundTrip(long row, int rows, Span<float> values) =>
            EachPanel(row, rows, MemoryMarshal.AsBytes(values), (first, count, panel) =>
                writer.RoundTrip(first, count, MemoryMarshal.Cast<byte, float>(panel)), areValues: true);

        public override IReadOnlyList<byte[]> Finish() => writer.Finish();

        public override void Dispose()
        {
            writer.Dispose();
            base.Dispose();
        }

        // Panels are buffers of the other sink, or values, which come back.
        private void EachPanel(long row, int rows, Span<byte> all, Visit visit, bool areValues = false)
        {
            var (inputs, width) = (stored.Columns, areValues ? sizeof(float) : Width);
            var buffer = ArrayPool<byte>.Shared.Rent((int)BytesOf(_panelRows));
            for (var matrix = 0; matrix < rows / inputs; matrix++)
            {
                var values = all.Slice(matrix * inputs * View.Columns * width, inputs * View.Columns * width);
                for (var column = 0; column < View.Columns; column += _panelRows)
                {
                    var count = Math.Min(_panelRows, View.Columns - column);
                    var panel = buffer.AsSpan(0, (int)BytesOf(count));
                    Transpose(values, column, count, panel, width, back: false);
                    visit(((row / inputs) + matrix) * View.Columns + column, count, panel);
                    if (areValues)
                    {
                        Transpose(values, column, count, panel, width, back: true);
                    }
                }
            }

            ArrayPool<byte>.Shared.Return(buffer);

            long BytesOf(int count) => areValues ? (long)count * inputs * sizeof(float) : sink.BytesOf(stored, count);
        }

        private void Transpose(Span<byte> values, int column, int count, Span<byte> panel, int width, bool back)
        {
            if (width == sizeof(float))
            {
                Transpose(MemoryMarshal.Cast<byte, float>(values), column, count, MemoryMarshal.Cast<byte, float>(panel), back);
            }
            else
            {
                Transpose(MemoryMarshal.Cast<byte, ushort>(values), column, count, MemoryMarshal.Cast<byte, ushort>(panel), back);
            }
        }

        private void Transpose<T>(Span<T> values, int column, int count, Span<T> panel, bool back)
        {
            for (var i = 0; i < stored.Columns; i++)
            {
                var row = values.Slice((i * View.Columns) + column, count);
                for (var k = 0; k < row.Length; k++)
                {
                    ref var inPanel = ref panel[(k * stored.Columns) + i];
                    (row[k], inPanel) = back ? (inPanel, inPanel) : (row[k], row[k]);
                }
            }
        }
    }
}
