namespace UnslothMerge.Adapters.Terms;

/// <summary>Puts trained rows in the place of some rows of a matrix. Source: PEFT 0.21, <c>TrainableTokensLayer</c>.</summary>
internal sealed class RowReplacementTerm : DeltaTerm
{
    private readonly FactorMatrix _rows;

    // The replaced rows in ascending order, and where each one's values stand.
    private readonly long[] _indices;
    private readonly int[] _order;

    /// <summary>True if another term replaces the same rows in the same order.</summary>
    public bool HasIndicesOf(RowReplacementTerm other) => _indices.SequenceEqual(other._indices) && _order.SequenceEqual(other._order);

    /// <summary>Rows [n, columns] replace the rows at n different indices, in the same order.</summary>
    public RowReplacementTerm(string kind, StoredTensor rows, IReadOnlyList<long> indices)
        : base(kind, [rows])
    {
        _rows = new FactorMatrix(rows, Transposed: false);
        _indices = [.. indices];
        _order = [.. Enumerable.Range(0, _indices.Length)];
        Array.Sort(_indices, _order);
    }

    public override bool IsAdditive => false;

    public override long ResidentBytes => 0;

    private long RowBytes => _rows.Columns * sizeof(float);

    public override bool CombinesWith(DeltaTerm other) => other is RowReplacementTerm rows && !_indices.Intersect(rows._indices).Any();

    public override long BytesOf(int rows) => (Math.Min(rows, _indices.Length) * RowBytes) + _rows.ScratchBytes(1);

    public override DeltaReader Open(DeltaContext context) => new Reader(this, context.Files);

    // The first index that is not below a row.
    private int FirstFrom(long row)
    {
        var found = Array.BinarySearch(_indices, row);
        return found < 0 ? ~found : found;
    }

    private sealed class Reader(RowReplacementTerm term, InputFiles files) : DeltaReader
    {
        public override void Read(long row, int rows, Span<byte> buffer)
        {
            var (first, end) = (term.FirstFrom(row), term.FirstFrom(row + rows));
            var scratch = buffer[^(int)term._rows.ScratchBytes(1)..];
            for (var i = first; i < end; i++)
            {
                term._rows.ReadRows(files, term._order[i], 1, 1, Values(buffer, i - first), scratch);
            }
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var first = term.FirstFrom(row);
            var values = MemoryMarshal.Cast<byte, float>(buffer[..(buffer.Length / sizeof(float) * sizeof(float))]);
            for (var i = term.FirstFrom(tile.Row); i < term._indices.Length && term._indices[i] < tile.Row + tile.Rows; i++)
            {
                var line = (int)(term._indices[i] - tile.Row);
                values.Slice(((i - first) * (int)term._rows.Columns) + tile.Column, tile.Columns).CopyTo(tile.WeightRow(line));
                tile.DeltaRow(line).Clear();
            }
        }

        private Span<float> Values(Span<byte> buffer, int slot) =>
            MemoryMarshal.Cast<byte, float>(buffer.Slice((int)(slot * term.RowBytes), (int)term.RowBytes));
    }
}
