namespace UnslothMerge.Formats;

/// <summary>A matrix [in, out] that is stored as its transpose: transformers' <c>Conv1D</c> as bitsandbytes writes it. It is read as a
/// whole.</summary>
internal sealed class TransposedSource(TensorSource stored) : TensorSource
{
    private readonly MatrixView _view = MatrixView.Of(stored.Shape);

    /// <summary>The matrix as it is stored.</summary>
    public TensorSource Stored => stored;

    public override IReadOnlyList<long> Shape { get; } = [.. stored.Shape.Reverse()];

    public override TensorType Type => stored.Type;

    public override string Format => stored.Format;

    public override IReadOnlyList<StoredTensor> Inputs => stored.Inputs;

    public override int RowQuantum => _view.Columns;

    public override long BytesOf(MatrixView view, int rows) => stored.BytesOf(_view, (int)_view.Rows);

    public override TensorSink? WrittenBack(string name) =>
        stored.WrittenBack(name) is { } sink ? new TransposedSink(sink, _view.Columns) : null;

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(stored.Open(files, _view), (int)_view.Rows);

    private sealed class Reader(TensorReader reader, int outputs) : TensorReader
    {
        public override void Read(long row, int rows, Span<byte> stored) => reader.Read(0, outputs, stored);

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var buffer = ArrayPool<float>.Shared.Rent(tile.Rows * tile.Columns);
            var transposed = buffer.AsSpan(0, tile.Rows * tile.Columns);
            reader.Decode(stored, 0, outputs, new Tile(transposed, default, tile.Column, tile.Columns, (int)tile.Row, tile.Rows));
            for (var i = 0; i < transposed.Length; i++)
            {
                tile.Weight[i] = transposed[(i % tile.Columns * tile.Rows) + (i / tile.Columns)];
            }

            ArrayPool<float>.Shared.Return(buffer);
        }

        public override void Dispose()
        {
            reader.Dispose();
            base.Dispose();
        }
    }
}
