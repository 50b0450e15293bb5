using UnslothMerge.Simd;

namespace UnslothMerge.Formats;

/// <summary>Writes matrices of one size that lie below each other in a tensor (the experts of a layer) each through a sink of its own.
/// Sinks round values to one dtype first.</summary>
internal sealed class PartsSink(IReadOnlyList<TensorSink> parts, long rows) : TensorSink
{
    private readonly TensorType _type = parts[0].RoundedType!.Value;

    public override IReadOnlyList<TensorSpec> Outputs { get; } = [.. parts.SelectMany(p => p.Outputs)];

    public override string Format => parts[0].Format;

    public override bool IsQuantized => parts[0].IsQuantized;

    public override TensorType? RoundedType => _type;

    public override string? SurveySet => parts[0].SurveySet;

    // Pieces of a part begin where its sink wants them to.
    public override int RowQuantum => rows % parts[0].RowQuantum == 0 ? parts[0].RowQuantum : checked((int)rows);

    public override long ResidentBytes => parts.Sum(p => p.ResidentBytes);

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * _type.Bits() / 8;

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output)
    {
        var part = new MatrixView(rows, view.Columns);
        var starts = parts.Select(p => p.Outputs.Count).Aggregate(new List<int> { 0 }, (all, count) => [.. all, all[^1] + count]);
        return new Writer(_type, rows, [.. parts.Select((p, i) => p.Open(files, part, new PartOutput(output, starts[i])))], view);
    }

    /// <summary>The outputs of one part among those of all.</summary>
    private sealed class PartOutput(IOutput all, int first) : IOutput
    {
        public void Write(int output, long start, ReadOnlySpan<byte> bytes) => all.Write(first + output, start, bytes);
    }

    private sealed class Writer(TensorType type, long partRows, TensorWriter[] parts, MatrixView view) : RoundingWriter(type, view)
    {
        private delegate void Visit<T>(TensorWriter part, long row, int rows, Span<T> values);

        public override IReadOnlyDictionary<string, SurveyedRange> Surveyed =>
            parts.SelectMany(p => p.Surveyed).GroupBy(r => r.Key, StringComparer.Ordinal)
                .ToDictionary(g => g.Key, g => g.Select(r => r.Value).Aggregate((a, b) => a.With(b)), StringComparer.Ordinal);

        public override void Survey(long row, int rows, Span<byte> encoded) =>
            Each<byte>(row, rows, encoded, Width, (part, first, count, bytes) => part.Survey(first, count, bytes));

        public override void Begin(IReadOnlyDictionary<string, SurveyedRange> found) => Array.ForEach(parts, p => p.Begin(found));

        public override void RoundTrip(long row, int rows, Span<float> values) =>
            Each<float>(row, rows, values, 1, (part, first, count, some) => part.RoundTrip(first, count, some));

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var sums = statistics;
            Each<byte>(row, rows, encoded, Width, (part, first, count, bytes) => part.Write(first, count, bytes, ref sums));
            statistics = sums;
        }

        public override IReadOnlyList<byte[]> Finish() => [.. parts.SelectMany(p => p.Finish())];

        public override void Dispose()
        {
            Array.ForEach(parts, p => p.Dispose());
            base.Dispose();
        }

        // An element has so many of the numbers.
        private void Each<T>(long row, int rows, Span<T> values, int width, Visit<T> visit)
        {
            for (var done = 0; done < rows;)
            {
                var (part, first) = Math.DivRem(row + done, partRows);
                var count = (int)Math.Min(rows - done, partRows - first);
                visit(parts[part], first, count, values.Slice(done * View.Columns * width, count * View.Columns * width));
                done += count;
            }
        }
    }
}
