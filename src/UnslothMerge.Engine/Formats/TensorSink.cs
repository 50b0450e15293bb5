using UnslothMerge.IO;
using UnslothMerge.Simd;

namespace UnslothMerge.Formats;

/// <summary>
/// How a logical tensor is stored in the output: as one stored tensor or several. A sink is part of a plan: immutable, without bytes or
/// open files. <see cref="Open"/> gives the writer that a run works with.
/// </summary>
internal abstract class TensorSink
{
    /// <summary>The stored tensors, the weight first.</summary>
    public abstract IReadOnlyList<TensorSpec> Outputs { get; }

    /// <summary>Stored tensors whose length is only known once every row has been seen.</summary>
    public virtual IReadOnlyList<DeferredSpec> Deferred => [];

    /// <summary>The bytes that the writer holds while the tensor is in work, shared by all workers.</summary>
    public virtual long ResidentBytes => 0;

    /// <summary>What a person would call the format.</summary>
    public abstract string Format { get; }

    /// <summary>True if values lose precision beyond one rounding, so that the loss is worth telling.</summary>
    public virtual bool IsQuantized => false;

    /// <summary>True if the writer must have seen every row before it can write the first: each piece is then computed twice.</summary>
    public virtual bool NeedsSurvey => false;

    /// <summary>
    /// The dtype that rows are rounded to at the beginning of the writer's buffer, row after row, if they are: deltas can then be added to
    /// stored values in one step, and a device can deliver such rows.
    /// </summary>
    public virtual TensorType? RoundedType => null;

    /// <summary>Tiles begin at multiples of this many rows.</summary>
    public virtual int RowQuantum => 1;

    /// <summary>The bytes of so many rows: the length of the buffer that the writer fills.</summary>
    public abstract long BytesOf(MatrixView view, int rows);

    /// <summary>Prepares for writing.</summary>
    public abstract TensorWriter Open(InputFiles files, MatrixView view, IOutput output);
}

/// <summary>Encodes and writes one tensor's rows during a run; used by several workers at once, for different rows.</summary>
internal abstract class TensorWriter : IDisposable
{
    /// <summary>Decodes a tile, adds its deltas, and encodes it. A writer that can do all in one step does.</summary>
    /// <param name="piece">The rows that the tile is a part of, as they are stored in the base.</param>
    /// <param name="tile">The rectangle; without a weight plane if the piece has a <see cref="Piece.PlainType"/>.</param>
    /// <param name="encoded">The buffer: all columns of the piece's rows.</param>
    /// <param name="statistics">Gathers norms, and whether every result is finite.</param>
    public virtual void Merge(Piece piece, Tile tile, Span<byte> encoded, ref TileStatistics statistics)
    {
        piece.Decode(tile);
        piece.AddDeltas(tile);
        Encode(tile, piece.Row, encoded, ref statistics);
    }

    /// <summary>Adds weight and delta, rounds once, and encodes.</summary>
    /// <param name="tile">The rectangle to encode.</param>
    /// <param name="row">The first row of the buffer.</param>
    /// <param name="encoded">The buffer: all columns of the rows in work.</param>
    /// <param name="statistics">Gathers norms, and whether every result is finite.</param>
    public abstract void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics);

    /// <summary>Looks at encoded rows, if <see cref="TensorSink.NeedsSurvey"/>; all of them come before the first <see
    /// cref="Write"/>.</summary>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="encoded">What <see cref="Encode"/> made of them.</param>
    public virtual void Survey(long row, int rows, Span<byte> encoded)
    {
    }

    /// <summary>Writes encoded rows to their place.</summary>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="encoded">What <see cref="Encode"/> made of them.</param>
    /// <param name="statistics">Gathers the error of a quantization.</param>
    public abstract void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics);

    /// <summary>Writes what can only be known once every row has been seen.</summary>
    /// <returns>The content of the <see cref="TensorSink.Deferred"/> tensors.</returns>
    public virtual IReadOnlyList<byte[]> Finish() => [];

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Gives back what the writer holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}

/// <summary>Takes the bytes of one tensor's outputs to their place in a shard.</summary>
internal interface IOutput
{
    /// <summary>Writes a part of an output.</summary>
    /// <param name="output">Its index in <see cref="TensorSink.Outputs"/>.</param>
    /// <param name="start">The first byte, counted from the output's first.</param>
    /// <param name="bytes">The bytes.</param>
    void Write(int output, long start, ReadOnlySpan<byte> bytes);
}
