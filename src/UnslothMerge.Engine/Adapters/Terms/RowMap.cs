namespace UnslothMerge.Adapters.Terms;

/// <summary>What a change makes of one row of a layer's weight [outputs, inputs], independent of all other rows; used by several workers at
/// once.</summary>
internal abstract class RowMap
{
    /// <summary>Maps the row of an output in place: [inputs]. The scratch is as long.</summary>
    public abstract void Apply(long output, Span<double> row, Span<double> scratch);
}
