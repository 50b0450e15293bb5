namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = W⊙A + B for a weight [out, in]; Δ = b⊙D + E for a bias [out], whose supports are no products. The factor is A or D, the
/// offset B or E; null for none. Source: GLoRA (arXiv 2306.07967); PEFT 0.21, <c>GloraLinear</c>.</summary>
internal sealed class GloraTerm(string kind, GloraPath? factor, GloraPath? offset, bool ofBias)
    : DeltaTerm(kind, [.. (factor?.Inputs ?? []).Concat(offset?.Inputs ?? [])])
{
    public override int? Rank => (int?)(factor ?? offset)?.Right?.Shape[0];

    public override long ResidentBytes => (factor?.Bytes ?? 0) + (offset?.Bytes ?? 0);

    public override DeltaReader Open(DeltaContext context) =>
        new Reader(factor?.Load(context.Files), offset?.Load(context.Files), ofBias, context.Factor);

    private sealed class Reader(GloraPath.Loaded? factor, GloraPath.Loaded? offset, bool ofBias, double weight) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var rented = ArrayPool<double>.Shared.Rent(2 * tile.Columns);
            var factors = rented.AsSpan(0, tile.Columns);
            var offsets = rented.AsSpan(tile.Columns, tile.Columns);
            factors.Clear();
            offsets.Clear();
            for (var i = 0; i < tile.Rows; i++)
            {
                Load(factor, tile, i, factors);
                Load(offset, tile, i, offsets);
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < weights.Length; c++)
                {
                    deltas[c] += (float)(weight * ((weights[c] * factors[c]) + offsets[c]));
                }
            }

            ArrayPool<double>.Shared.Return(rented);
        }

        private void Load(GloraPath.Loaded? path, Tile tile, int row, Span<double> values)
        {
            if (ofBias)
            {
                path?.Elements(tile.Column, values);
            }
            else
            {
                path?.Row(tile.Row + row, tile.Column, values);
            }
        }
    }
}
