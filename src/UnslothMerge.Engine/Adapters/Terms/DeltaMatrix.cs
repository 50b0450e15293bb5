namespace UnslothMerge.Adapters.Terms;

/// <summary>A rectangle of a matrix.</summary>
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

    /// <summary>Computes a block, row-major. A value does not depend on which block it is asked for in.</summary>
    public abstract void Fill(Block block, Span<double> values);
}
