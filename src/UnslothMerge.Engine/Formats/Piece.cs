namespace UnslothMerge.Formats;

/// <summary>The changes to the rows of a piece.</summary>
internal interface IPieceDeltas
{
    /// <summary>Computes the deltas of a tile into its delta plane; those that are no sum may change its weights too.</summary>
    void AddTo(Tile tile);
}

/// <summary>Some rows of a tensor as they are stored, and what changes them. <see cref="PlainType"/> is the dtype of the stored values, if
/// deltas may be added to them as they are; null if they must be decoded first.</summary>
internal readonly ref struct Piece(
    TensorReader reader, TensorType? plainType, ReadOnlySpan<byte> stored, long row, int rows, IPieceDeltas deltas)
{
    private readonly ReadOnlySpan<byte> _stored = stored;

    public TensorType? PlainType => plainType;

    public ReadOnlySpan<byte> Stored => _stored;

    public long Row => row;

    /// <summary>Decodes the weights of a tile.</summary>
    public void Decode(Tile tile) => reader.Decode(_stored, row, rows, tile);

    public void AddDeltas(Tile tile) => deltas.AddTo(tile);
}
