using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Gives every output of a layer a magnitude: (m / ‖W + Δ‖₂) ⊙ (W + Δ), with Δ what the terms before this one add and the norm
/// taken over the weights of that output, without an epsilon. Norms are summed in double, products as good as that. Source: DoRA (arXiv
/// 2402.09353). By column: an output is a column of the weight (Conv1D, embeddings) instead of a row.</summary>
internal sealed class MagnitudeTerm(StoredTensor magnitude, bool byColumn) : DeltaTerm("DoRA", [magnitude])
{
    /// <summary>One magnitude per output.</summary>
    public StoredTensor Magnitude => magnitude;

    /// <summary>True if an output is a column of the weight.</summary>
    public bool ByColumn => byColumn;

    public override bool IsAdditive => false;

    public override DeltaComposition Composition => DeltaComposition.Rescaled;

    public override DeltaReach Reach => byColumn ? DeltaReach.ReducingPass : DeltaReach.RowLocal;

    public override bool NeedsWholeRows => !byColumn;

    public override long ResidentBytes => magnitude.Shape.Count() * sizeof(double);

    public override DeltaReader Open(DeltaContext context)
    {
        var magnitudes = context.Read(magnitude);
        return byColumn ? new ColumnReader(context, magnitudes) : new RowReader(magnitudes);
    }

    private sealed class RowReader(double[] magnitudes) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var weight = tile.WeightRow(i);
                var delta = tile.DeltaRow(i);
                Magnitudes.Rescale(weight, delta, magnitudes[tile.Row + i] / Math.Sqrt(Magnitudes.SquaredNorm(weight, delta)));
            }
        }
    }

    private sealed class ColumnReader : DeltaReader
    {
        private readonly double[] _factors;

        public ColumnReader(DeltaContext context, double[] magnitudes)
        {
            var squares = new double[magnitudes.Length];
            context.Scan(tile =>
            {
                for (var i = 0; i < tile.Rows; i++)
                {
                    Magnitudes.AddSquares(tile.WeightRow(i), tile.DeltaRow(i), squares);
                }
            });
            _factors = [.. magnitudes.Zip(squares, (m, s) => m / Math.Sqrt(s))];
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                Magnitudes.Rescale(tile.WeightRow(i), tile.DeltaRow(i), _factors.AsSpan(tile.Column, tile.Columns));
            }
        }
    }
}
