using System.Collections.Frozen;
using UnslothMerge.Simd;

namespace UnslothMerge.Formats;

/// <summary>How a logical tensor is stored in the output: as one stored tensor or several. A sink is part of a plan: immutable, without
/// bytes or open files. <see cref="Open"/> gives the writer that a run works with.</summary>
internal abstract class TensorSink
{
    /// <summary>The stored tensors, the weight first.</summary>
    public abstract IReadOnlyList<TensorSpec> Outputs { get; }

    /// <summary>Stored tensors whose length is only known once every row has been seen.</summary>
    public virtual IReadOnlyList<DeferredSpec> Deferred => [];

    /// <summary>The bytes that the writer holds while the tensor is in work, shared by all workers.</summary>
    public virtual long ResidentBytes => 0;

    /// <summary>The name of the format, for users.</summary>
    public abstract string Format { get; }

    /// <summary>True if values lose precision beyond one rounding, so that the loss is reported.</summary>
    public virtual bool IsQuantized => false;

    /// <summary>True if the writer must have seen every row before it can write the first: each piece is then computed twice.</summary>
    public virtual bool NeedsSurvey => false;

    /// <summary>The name of the tensors whose ranges must all be known before the first row of any of them is written: they are surveyed
    /// together, in a pass of their own. Null if it needs no such pass.</summary>
    public virtual string? SurveySet => null;

    /// <summary>The dtype that rows are rounded to at the beginning of the writer's buffer, row after row, if they are: deltas can then be
    /// added to stored values in one step, and a device can deliver such rows.</summary>
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
    /// <summary>Decodes a tile (without a weight plane if the piece has a <see cref="Piece.PlainType"/>), adds its deltas, and encodes it
    /// into the buffer of all columns of the piece's rows. A writer that can do all in one step does.</summary>
    public virtual void Merge(Piece piece, Tile tile, Span<byte> encoded, ref TileStatistics statistics)
    {
        piece.Decode(tile);
        piece.AddDeltas(tile);
        Encode(tile, piece.Row, encoded, ref statistics);
    }

    /// <summary>Adds weight and delta, rounds once, and encodes into a buffer of whole rows from <paramref name="row"/> on.</summary>
    public abstract void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics);

    /// <summary>Looks at encoded rows, if <see cref="TensorSink.NeedsSurvey"/> or there is a <see cref="TensorSink.SurveySet"/>; all of
    /// them come before the first <see cref="Write"/>.</summary>
    public virtual void Survey(long row, int rows, Span<byte> encoded)
    {
    }

    /// <summary>What its surveys found, by the names of what must be known together.</summary>
    public virtual IReadOnlyDictionary<string, SurveyedRange> Surveyed => FrozenDictionary<string, SurveyedRange>.Empty;

    /// <summary>Tells what the surveys of all tensors of its <see cref="TensorSink.SurveySet"/> found; before the first <see
    /// cref="Write"/>.</summary>
    public virtual void Begin(IReadOnlyDictionary<string, SurveyedRange> found)
    {
    }

    /// <summary>Replaces values of whole rows by what they decode to once they are written, if <see cref="TensorSink.IsQuantized"/>. After
    /// all surveys.</summary>
    public virtual void RoundTrip(long row, int rows, Span<float> values) =>
        throw new InvalidOperationException("It does not quantize.");

    /// <summary>Writes rows, as <see cref="Encode"/> made them, to their place.</summary>
    public abstract void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics);

    /// <summary>Writes what can only be known once every row has been seen; gives the content of the <see cref="TensorSink.Deferred"/>
    /// tensors.</summary>
    public virtual IReadOnlyList<byte[]> Finish() => [];

    public virtual void Dispose()
    {
    }
}

/// <summary>Writes the bytes of one tensor's outputs to their place in a shard.</summary>
internal interface IOutput
{
    /// <summary>Writes a part of one of <see cref="TensorSink.Outputs"/>, from a byte counted from that output's first.</summary>
    void Write(int output, long start, ReadOnlySpan<byte> bytes);
}
