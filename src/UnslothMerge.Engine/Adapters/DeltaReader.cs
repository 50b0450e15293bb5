using UnslothMerge.Formats;
using UnslothMerge.IO;

namespace UnslothMerge.Adapters;

/// <summary>Applies one delta during a run; used by several workers at once.</summary>
internal abstract class DeltaReader : IDisposable
{
    /// <summary>Reads what the delta needs for some rows.</summary>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="buffer">Receives it, in an arrangement that only <see cref="Apply"/> needs to know.</param>
    public virtual void Read(long row, int rows, Span<byte> buffer)
    {
    }

    /// <summary>
    /// Adds the delta to a tile. A change that is not a sum may read both planes, and writes into the delta what the result differs from
    /// the weight, or the result into the weight and zero into the delta.
    /// </summary>
    /// <param name="buffer">What <see cref="Read"/> gave.</param>
    /// <param name="row">The first row that was read.</param>
    /// <param name="tile">The rectangle; it lies within those rows.</param>
    public abstract void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile);

    /// <summary>The same for the first delta of a tile, whose sum holds anything as yet.</summary>
    /// <inheritdoc cref="Apply"/>
    public virtual void Begin(ReadOnlySpan<byte> buffer, long row, Tile tile)
    {
        tile.Delta.Clear();
        Apply(buffer, row, tile);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Gives back what the reader holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
