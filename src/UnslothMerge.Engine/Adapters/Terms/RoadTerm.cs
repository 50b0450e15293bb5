namespace UnslothMerge.Adapters.Terms;

/// <summary>How many angles RoAd stores.</summary>
internal enum RoadVariant
{
    /// <summary>[outputs / 2]: one for both halves of a group.</summary>
    Road1,

    /// <summary>[outputs].</summary>
    Road2,

    /// <summary>[2·outputs]: for each group, those of the cosines, then those of the sines.</summary>
    Road4,
}

/// <summary>W' = R·W and b' = R·b: the outputs are cut into groups, and output j of a group's first half is rotated and scaled together
/// with output j of its second half. Source: RoAd (arXiv 2409.00119); PEFT 0.21, <c>road.Linear</c>. There are as many angles θ as scales
/// α; a group has an even number of outputs.</summary>
internal sealed class RoadTerm(string kind, StoredTensor angles, StoredTensor scales, RoadVariant variant, int group, bool ofBias)
    : DeltaTerm(kind, [angles, scales])
{
    public override bool IsAdditive => false;

    public override DeltaComposition Composition => DeltaComposition.After;

    public override int RowQuantum => ofBias ? 1 : group;

    public override bool NeedsWholeRows => ofBias;

    public override long ResidentBytes => 4 * angles.Shape.Count() * sizeof(double);

    /// <summary>The number of angles that a layer has.</summary>
    public static long Angles(RoadVariant variant, long outputs) => variant switch
    {
        RoadVariant.Road1 => outputs / 2,
        RoadVariant.Road2 => outputs,
        _ => 2 * outputs,
    };

    public override DeltaReader Open(DeltaContext context) => new Reader(this, context.Files, angles, scales, group / 2, ofBias);

    // Where the cosine and the sine of an output are stored.
    private (long Cosine, long Sine) IndexOf(long output)
    {
        var (index, within) = Math.DivRem(output, group);
        var half = group / 2;
        return variant switch
        {
            RoadVariant.Road1 => ((index * half) + (within % half), (index * half) + (within % half)),
            RoadVariant.Road2 => (output, output),
            _ => ((index * 2 * group) + within, (index * 2 * group) + group + within),
        };
    }

    private sealed class Reader(
        RoadTerm term, InputFiles files, StoredTensor angles, StoredTensor scales, int half, bool ofBias) : DeltaReader
    {
        private readonly double[] _angles = AdapterValues.Read(files, angles);
        private readonly double[] _scales = AdapterValues.Read(files, scales);

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            // In the bias the outputs lie side by side, in the weight one below the other.
            var (outputs, first, step, width) = ofBias ? (tile.Columns, 0L, 1, 1) : (tile.Rows, tile.Row, tile.Columns, tile.Columns);
            for (var start = 0; start < outputs; start += 2 * half)
            {
                for (var j = start; j < start + half; j++)
                {
                    var (upper, lower) = (Factors(first + j), Factors(first + j + half));
                    for (var c = 0; c < width; c++)
                    {
                        var (a, b) = ((j * step) + c, ((j + half) * step) + c);
                        var (x1, x2) = ((double)tile.Weight[a] + tile.Delta[a], (double)tile.Weight[b] + tile.Delta[b]);
                        TileValue.Set(ref tile.Weight[a], ref tile.Delta[a], (upper.Cosine * x1) - (upper.Sine * x2));
                        TileValue.Set(ref tile.Weight[b], ref tile.Delta[b], (lower.Cosine * x2) + (lower.Sine * x1));
                    }
                }
            }
        }

        private (double Cosine, double Sine) Factors(long output)
        {
            var (cosine, sine) = term.IndexOf(output);
            return (_scales[cosine] * Math.Cos(_angles[cosine]), _scales[sine] * Math.Sin(_angles[sine]));
        }
    }
}
