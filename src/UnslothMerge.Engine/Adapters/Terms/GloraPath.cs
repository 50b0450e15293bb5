namespace UnslothMerge.Adapters.Terms;

/// <summary>One of GLoRA's supports A … E: a product Xd [rows, r] · Xu [r, columns], or X alone (right is null): one value per row, or one
/// for all. Source: PEFT 0.21, <c>GloraLoraPath</c>, <c>GloraVectorPath</c>, <c>GloraScalarPath</c>.</summary>
internal sealed record GloraPath(StoredTensor Left, StoredTensor? Right)
{
    /// <summary>The tensors.</summary>
    public IEnumerable<StoredTensor> Inputs => Right is null ? [Left] : [Left, Right];

    /// <summary>The bytes of its values in double.</summary>
    public long Bytes => Inputs.Sum(t => t.Shape.Count()) * sizeof(double);

    /// <summary>Says why it cannot be a support of [rows, columns]; null if it can.</summary>
    public string? Misfit(long rows, long columns)
    {
        var fits = Right is null
            ? Left.Shape.Count() == 1 || (Left.Shape.Count() == rows && Left.Shape[0] == rows)
            : Left.Shape.Count == 2 && Right.Shape.Count == 2 && Left.Shape[1] == Right.Shape[0] && Left.Shape[0] == rows
                && Right.Shape[1] == columns;
        return fits
            ? null
            : $"{Left.Shape.Text()}{(Right is null ? "" : $" · {Right.Shape.Text()}")} is not a support of [{rows}, {columns}]";
    }

    /// <summary>Loads it.</summary>
    public Loaded Load(InputFiles files) =>
        new(
            AdapterValues.Read(files, Left), Right is null ? null : AdapterValues.Read(files, Right),
            Right is null ? 0 : (int)Right.Shape[1]);

    /// <summary>Its values.</summary>
    internal sealed class Loaded(double[] left, double[]? right, int columns)
    {
        /// <summary>A part of a vector: of a support without a product.</summary>
        public void Elements(int first, Span<double> values)
        {
            if (left.Length == 1)
            {
                values.Fill(left[0]);
            }
            else
            {
                left.AsSpan(first, values.Length).CopyTo(values);
            }
        }

        /// <summary>Computes a part of a row.</summary>
        public void Row(long row, int column, Span<double> values)
        {
            if (right is null)
            {
                values.Fill(left[left.Length == 1 ? 0 : row]);
                return;
            }

            var rank = right.Length / columns;
            values.Clear();
            for (var k = 0; k < rank; k++)
            {
                TensorPrimitives.FusedMultiplyAdd(
                    right.AsSpan((k * columns) + column, values.Length), left[(row * rank) + k], values, values);
            }
        }
    }
}
