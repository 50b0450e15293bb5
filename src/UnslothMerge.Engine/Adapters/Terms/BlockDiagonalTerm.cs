namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = scaling · left · right, where a factor may be block-diagonal: its rows are stored in equal blocks, and block i stands at
/// the i-th place of the diagonal. Summed over the rank in fp32 with fused multiply-adds. Source: PEFT 0.21, <c>BdLoraLinearVariant</c>.
/// Left is [rows, rank / leftBlocks], right [rank, columns / rightBlocks]; one block is an ordinary matrix.</summary>
internal sealed class BlockDiagonalTerm(string kind, StoredTensor left, int leftBlocks, StoredTensor right, int rightBlocks, double scaling)
    : DeltaTerm(kind, [right, left])
{
    private readonly FactorMatrix _left = new(left, Transposed: false);
    private readonly int _rank = checked((int)right.Shape[0]);

    private int LeftBlocks { get; } = leftBlocks;

    private int RightBlocks { get; } = rightBlocks;

    public override int? Rank => _rank;

    public override double Scaling => scaling;

    public override long ResidentBytes => right.Shape.Count() * sizeof(float);

    public override long BytesOf(int rows) => (rows * _left.Columns * sizeof(float)) + _left.ScratchBytes(rows);

    public override DeltaReader Open(DeltaContext context) =>
        new Reader(this, context.Files, AdapterValues.ReadFloats(context.Files, right), scaling * context.Factor);

    private sealed class Reader(BlockDiagonalTerm term, InputFiles files, float[] right, double scale) : DeltaReader
    {
        // What a row of each factor holds of it, and how many rows make a block.
        private readonly int _leftWidth = (int)term._left.Columns;
        private readonly int _rightWidth = right.Length / term._rank;
        private readonly long _leftBlock = term._left.Rows / term.LeftBlocks;
        private readonly int _rightBlock = term._rank / term.RightBlocks;

        public override void Read(long row, int rows, Span<byte> buffer)
        {
            var bytes = rows * _leftWidth * sizeof(float);
            term._left.ReadRows(files, row, rows, scale, MemoryMarshal.Cast<byte, float>(buffer[..bytes]), buffer[bytes..]);
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var at = (int)(tile.Row + i - row) * _leftWidth * sizeof(float);
                var factors = MemoryMarshal.Cast<byte, float>(buffer.Slice(at, _leftWidth * sizeof(float)));
                var first = (int)((tile.Row + i) / _leftBlock) * (term.LeftBlocks > 1 ? _leftWidth : 0);
                for (var j = 0; j < factors.Length; j++)
                {
                    var k = first + j;
                    var start = k / _rightBlock * (term.RightBlocks > 1 ? _rightWidth : 0);
                    var (begin, end) = (Math.Max(start, tile.Column), Math.Min(start + _rightWidth, tile.Column + tile.Columns));
                    if (begin < end)
                    {
                        var delta = tile.DeltaRow(i)[(begin - tile.Column)..(end - tile.Column)];
                        TensorPrimitives.FusedMultiplyAdd(
                            right.AsSpan((k * _rightWidth) + begin - start, end - begin), factors[j], delta, delta);
                    }
                }
            }
        }
    }
}
