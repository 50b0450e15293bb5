namespace UnslothMerge.Adapters.Terms;

/// <summary>A rectangle of a matrix.</summary>
/// <param name="Row">The first row.</param>
/// <param name="Rows">The number of rows.</param>
/// <param name="Column">The first column.</param>
/// <param name="Columns">The number of columns.</param>
internal readonly record struct Block(int Row, int Rows, int Column, int Columns)
{
    /// <summary>Blocks have at most so many values, unless a matrix wants whole rows: two of them fit on the stack and into L1.</summary>
    public const int MaxValues = 2048;

    /// <summary>The number of values.</summary>
    public int Count => Rows * Columns;
}

/// <summary>A matrix that is not stored, but of which any block can be computed in double. Used by several workers at once.</summary>
internal abstract class DeltaMatrix
{
    /// <summary>True if a block must hold all columns, because computing a part of a row costs as much as the whole.</summary>
    public virtual bool NeedsWholeRows => false;

    /// <summary>Computes a block. A value does not depend on which block it is asked for in.</summary>
    /// <param name="block">Which one.</param>
    /// <param name="values">Receives it, row-major.</param>
    public abstract void Fill(Block block, Span<double> values);
}
