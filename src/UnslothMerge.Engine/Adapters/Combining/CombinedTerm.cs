using System.Numerics;

namespace UnslothMerge.Adapters.Combining;

/// <summary>The terms of one adapter on a tensor, whose sum is its delta; the adapter's place in the merge; the caller's factor on
/// it.</summary>
internal sealed record AdapterDelta(int Adapter, double Weight, ImmutableArray<DeltaTerm> Terms);

/// <summary>The deltas of several adapters on one tensor, combined by another rule than their sum (see <see cref="CombinationType"/>). A
/// factor on this term multiplies the combined delta. Magnitudes are compared in fp32; equal ones are kept in the order of their index. The
/// density is the share of elements that stay, in (0, 1]; a random choice depends on the seed and the tensor's name.</summary>
internal sealed class CombinedTerm(CombinationType type, double density, int seed, string tensor, ImmutableArray<AdapterDelta> deltas)
    : DeltaTerm(type.Name(), [.. deltas.SelectMany(d => d.Terms).SelectMany(t => t.Inputs)])
{
    /// <summary>The rule with its numbers, as a person would note them.</summary>
    public string Description =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{type.Name()} (density {density}{(type is CombinationType.DareLinear or CombinationType.DareTies ? $", seed {seed}" : "")})");

    /// <summary>One delta per adapter.</summary>
    public ImmutableArray<AdapterDelta> Deltas => deltas;

    public override int? Rank => Terms.Max(t => t.Rank);

    public override DeltaReach Reach =>
        Terms.Select(t => t.Reach).Append(DropsSmallest ? DeltaReach.ReducingPass : DeltaReach.RowLocal).Max();

    public override int RowQuantum =>
        Terms.Aggregate(1, (a, t) => a / (int)BigInteger.GreatestCommonDivisor(a, t.RowQuantum) * t.RowQuantum);

    public override bool NeedsWholeRows => Terms.Any(t => t.NeedsWholeRows);

    public override IEnumerable<StoredTensor> SharedInputs => Terms.SelectMany(t => t.SharedInputs);

    public override long ResidentBytes => Terms.Sum(t => t.ResidentBytes) + (DropsSmallest ? deltas.Length * LargestMagnitudes.Bytes : 0);

    /// <summary>The rule.</summary>
    internal CombinationType Type => type;

    /// <summary>The share of elements that stay.</summary>
    internal double Density => density;

    /// <summary>Every term of every adapter.</summary>
    internal IEnumerable<DeltaTerm> Terms => deltas.SelectMany(d => d.Terms);

    /// <summary>True if the smallest elements are dropped.</summary>
    internal bool DropsSmallest => density < 1 && type is (CombinationType.Ties or CombinationType.MagnitudePrune);

    /// <summary>True if elements are dropped at random.</summary>
    internal bool DropsAtRandom => density < 1 && type is (CombinationType.DareLinear or CombinationType.DareTies);

    /// <summary>The same with one more term of an adapter.</summary>
    public CombinedTerm With(int adapter, double weight, DeltaTerm term) => new(
        type,
        density,
        seed,
        tensor,
        deltas is [.. var others, { Adapter: var last } delta] && last == adapter
            ? others.Add(delta with { Terms = delta.Terms.Add(term) })
            : deltas.Add(new AdapterDelta(adapter, weight, [term])));

    public override long BytesOf(int rows) => TermReaders.BytesOf(Terms, rows);

    public override DeltaReader Open(DeltaContext context) => new CombinedReader(this, context);

    /// <summary>The factor on an adapter's delta before it is combined: its weight, and what makes up for the elements that are dropped at
    /// random.</summary>
    internal double FactorOf(AdapterDelta delta) => DropsAtRandom ? delta.Weight / density : delta.Weight;

    /// <summary>Which elements of a delta stay, where that is a matter of chance.</summary>
    internal RandomMask MaskOf(AdapterDelta delta) => new(seed, tensor, delta.Adapter, density);
}
