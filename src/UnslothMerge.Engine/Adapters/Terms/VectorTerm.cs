namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = scaling · v for a vector [n] or [1, n], for example the bias that <c>lora_bias</c> trains.</summary>
internal sealed class VectorTerm(string kind, StoredTensor vector, double scaling) : DeltaTerm(kind, [vector])
{
    public override double Scaling => scaling;

    public override long ResidentBytes => vector.Shape.Count() * sizeof(float);

    public override DeltaReader Open(DeltaContext context) =>
        new Reader(AdapterValues.ReadFloats(context.Files, vector, scaling * context.Factor));

    // A vector is one row: it is loaded once.
    private sealed class Reader(float[] values) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var delta = tile.DeltaRow(0);
            TensorPrimitives.Add(delta, values.AsSpan(tile.Column, tile.Columns), delta);
        }
    }
}
