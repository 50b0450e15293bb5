namespace UnslothMerge.Adapters.Terms;

/// <summary>What a change makes of one row of a layer's weight [outputs, inputs], independent of all other rows; used by several workers at
/// once.</summary>
internal abstract class RowMap
{
    /// <summary>Maps a row.</summary>
    /// <param name="output">The row's number.</param>
    /// <param name="row">[inputs]: the weights; receives the result.</param>
    /// <param name="scratch">[inputs]: working memory.</param>
    public abstract void Apply(long output, Span<double> row, Span<double> scratch);
}
