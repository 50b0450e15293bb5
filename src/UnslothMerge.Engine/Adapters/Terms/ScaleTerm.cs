namespace UnslothMerge.Adapters.Terms;

/// <summary>Which element of a vector scales the value at a row and column: row / RowSpan · RowStep + column / ColumnSpan · ColumnStep. A
/// span is the rows or columns that share an element, a step the elements from one such run to the next.</summary>
internal readonly record struct ScaleIndex(long RowSpan, long RowStep, long ColumnSpan, long ColumnStep)
{
    /// <summary>One element per row.</summary>
    public static ScaleIndex ByRow => new(1, 1, 1, 0);

    /// <summary>One element per column.</summary>
    public static ScaleIndex ByColumn => new(1, 0, 1, 1);
}

/// <summary>W' = l ⊙ W: every value is multiplied by one element of a vector. Source: IA3 (arXiv 2205.05638).</summary>
internal sealed class ScaleTerm(string kind, StoredTensor vector, ScaleIndex index) : DeltaTerm(kind, [vector])
{
    public override bool IsAdditive => false;

    public override DeltaComposition Composition => DeltaComposition.After;

    public override long ResidentBytes => vector.Shape.Count() * sizeof(double);

    public override DeltaReader Open(DeltaContext context) => new Reader(context.Files, vector, index);

    private sealed class Reader(InputFiles files, StoredTensor vector, ScaleIndex index) : DeltaReader
    {
        private readonly double[] _factors = AdapterValues.Read(files, vector);

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                var at = ((tile.Row + i) / index.RowSpan * index.RowStep) + (tile.Column / index.ColumnSpan * index.ColumnStep);
                var left = index.ColumnSpan - (tile.Column % index.ColumnSpan);
                for (var c = 0; c < weights.Length; c++, left--)
                {
                    if (left == 0)
                    {
                        at += index.ColumnStep;
                        left = index.ColumnSpan;
                    }

                    var factor = _factors[at];
                    TileValue.Set(ref weights[c], ref deltas[c], ((double)weights[c] + deltas[c]) * factor);
                }
            }
        }
    }
}
