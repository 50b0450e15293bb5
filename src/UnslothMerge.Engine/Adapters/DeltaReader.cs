namespace UnslothMerge.Adapters;

/// <summary>Applies one delta during a run; used by several workers at once.</summary>
internal abstract class DeltaReader : IDisposable
{
    /// <summary>Reads what the delta needs for some rows, in an arrangement that only <see cref="Apply"/> knows.</summary>
    public virtual void Read(long row, int rows, Span<byte> buffer)
    {
    }

    /// <summary>Adds the delta to a tile that lies within the rows that <see cref="Read"/> read from <paramref name="row"/> on. A change
    /// that is not a sum may read both planes, and writes into the delta what the result differs from the weight, or the result into the
    /// weight and zero into the delta.</summary>
    public abstract void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile);

    /// <summary>The same for the first delta of a tile, whose sum holds anything as yet.</summary>
    /// <inheritdoc cref="Apply"/>
    public virtual void Begin(ReadOnlySpan<byte> buffer, long row, Tile tile)
    {
        tile.Delta.Clear();
        Apply(buffer, row, tile);
    }

    public virtual void Dispose()
    {
    }
}
