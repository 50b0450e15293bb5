namespace UnslothMerge.Formats;

/// <summary>Where the values of a logical tensor come from: one stored tensor or several, in whatever number format. A source is part of a
/// plan: immutable, without bytes or open files. <see cref="Open"/> gives the reader that a run works with.</summary>
internal abstract class TensorSource
{
    /// <summary>The logical shape.</summary>
    public abstract IReadOnlyList<long> Shape { get; }

    /// <summary>The dtype of the values: the stored one, or the one a quantized tensor decodes to.</summary>
    public abstract TensorType Type { get; }

    /// <summary>The name of the stored format, for users: BF16, NF4 …</summary>
    public abstract string Format { get; }

    /// <summary>Every stored tensor that is read.</summary>
    public abstract IReadOnlyList<StoredTensor> Inputs { get; }

    /// <summary>The stored tensor whose bytes are the values just as they are, if there is one: it can be copied without being
    /// decoded.</summary>
    public virtual StoredTensor? Verbatim => null;

    /// <summary>The dtype in which the values lie in the reader's buffer, row after row, if they do: they need not be decoded before they
    /// are added to.</summary>
    public virtual TensorType? PlainType => null;

    /// <summary>Tiles begin at multiples of this many rows.</summary>
    public virtual int RowQuantum => 1;

    /// <summary>The stored bytes of so many rows, all companions included: the length of the buffer that the reader fills.</summary>
    public abstract long BytesOf(MatrixView view, int rows);

    /// <summary>The sink that stores changed values as the base stores this tensor, with the base's own parameters; null if there is
    /// none.</summary>
    public virtual TensorSink? WrittenBack(string name) => null;

    /// <summary>Prepares for reading.</summary>
    public abstract TensorReader Open(InputFiles files, MatrixView view);
}

/// <summary>Reads one tensor's rows during a run; used by several workers at once.</summary>
internal abstract class TensorReader : IDisposable
{
    /// <summary>Reads the stored bytes of some rows, in an arrangement that only <see cref="Decode"/> knows.</summary>
    public abstract void Read(long row, int rows, Span<byte> stored);

    /// <summary>Decodes a tile, which lies within the rows that <see cref="Read"/> gave.</summary>
    public abstract void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile);

    public virtual void Dispose()
    {
    }
}
