using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>A DoRA on a weight W that other adapters have made W′: (m / ‖W + Δ‖₂) ⊙ (W′ + Δ), with Δ the adapter's own products. Source:
/// PEFT 0.21, <c>lora.variants.DoraLinearVariant.forward</c>; its merge takes the norm over W′ + Δ instead and differs from it.</summary>
internal sealed class DoraTerm(ImmutableArray<LowRankTerm> products, MagnitudeTerm magnitude)
    : DeltaTerm(magnitude.Kind, [.. products.SelectMany(p => p.Inputs), .. magnitude.Inputs])
{
    /// <summary>The terms that make Δ.</summary>
    public ImmutableArray<LowRankTerm> Products => products;

    /// <summary>The magnitudes.</summary>
    public MagnitudeTerm Magnitude => magnitude;

    public override int? Rank => products.Max(p => p.Rank);

    public override double Scaling => products[0].Scaling;

    public override bool IsAdditive => false;

    public override DeltaComposition Composition => magnitude.Composition;

    public override DeltaReach Reach => magnitude.Reach;

    public override bool NeedsWholeRows => magnitude.NeedsWholeRows;

    public override IEnumerable<StoredTensor> SharedInputs => products.SelectMany(p => p.SharedInputs);

    public override long ResidentBytes => products.Sum(p => p.ResidentBytes) + magnitude.ResidentBytes;

    public override long BytesOf(int rows) => TermReaders.BytesOf(products, rows);

    public override DeltaReader Open(DeltaContext context) => new Reader(this, context);

    private sealed class Reader : DeltaReader
    {
        private readonly DoraTerm _term;
        private readonly TermReaders _products;
        private readonly double[] _magnitudes;
        private readonly double[]? _factors;

        public Reader(DoraTerm term, DeltaContext context)
        {
            (_term, _magnitudes) = (term, context.Read(term.Magnitude.Magnitude));
            _products = new TermReaders(term.Products.Select(p => new InnerTerm(p, 0, context)));
            try
            {
                _factors = term.Magnitude.ByColumn ? ColumnFactors(context) : null;
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public override void Read(long row, int rows, Span<byte> buffer) => _products.Read(row, rows, buffer);

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var own = ArrayPool<float>.Shared.Rent(tile.Delta.Length);
            var delta = own.AsSpan(0, tile.Delta.Length);
            _products.Apply(buffer, row, tile, delta);
            TensorPrimitives.Add(tile.Delta, delta, tile.Delta);
            for (var i = 0; i < tile.Rows; i++)
            {
                var weight = tile.WeightRow(i);
                var sum = tile.DeltaRow(i);
                if (_factors is { } factors)
                {
                    Magnitudes.Rescale(weight, sum, factors.AsSpan(tile.Column, tile.Columns));
                }
                else
                {
                    var norm = Math.Sqrt(Magnitudes.SquaredNorm(weight, delta.Slice(i * tile.Columns, tile.Columns)));
                    Magnitudes.Rescale(weight, sum, _magnitudes[tile.Row + i] / norm);
                }
            }

            ArrayPool<float>.Shared.Return(own);
        }

        public override void Dispose()
        {
            _products.Dispose();
            base.Dispose();
        }

        // The scan shows what other adapters add, which the norm does not contain.
        private double[] ColumnFactors(DeltaContext context)
        {
            var squares = new double[_magnitudes.Length];
            context.Scan(tile =>
            {
                var buffer = ArrayPool<byte>.Shared.Rent((int)_term.BytesOf(tile.Rows));
                var own = ArrayPool<float>.Shared.Rent(tile.Delta.Length);
                var delta = own.AsSpan(0, tile.Delta.Length);
                Read(tile.Row, tile.Rows, buffer);
                _products.Apply(buffer, tile.Row, tile, delta);
                for (var i = 0; i < tile.Rows; i++)
                {
                    Magnitudes.AddSquares(tile.WeightRow(i), delta.Slice(i * tile.Columns, tile.Columns), squares);
                }

                ArrayPool<float>.Shared.Return(own);
                ArrayPool<byte>.Shared.Return(buffer);
            });
            return [.. _magnitudes.Zip(squares, (m, s) => m / Math.Sqrt(s))];
        }
    }
}
