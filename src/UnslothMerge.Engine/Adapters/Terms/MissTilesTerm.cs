namespace UnslothMerge.Adapters.Terms;

/// <summary>MiSS in its "bat" form: each tile X of r × r in tile row p becomes X + X·B_p + B_p, with B [out/r, r, r]. Row-local: X·B_p
/// mixes the columns of a row. Source: PEFT 0.21, <c>miss</c>.</summary>
internal sealed class MissTilesTerm(string kind, StoredTensor blocks, MatrixView view) : DeltaTerm(kind, [blocks])
{
    public override int? Rank => (int)blocks.Shape[1];

    public override bool IsAdditive => false;

    public override bool NeedsWholeRows => true;

    public override long ResidentBytes => blocks.Shape.Count() * sizeof(double);

    public override DeltaReader Open(DeltaContext context) => new Reader(context.Read(blocks), (int)blocks.Shape[1], view.Columns);

    private sealed class Reader(double[] blocks, int rank, int columns) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var now = ArrayPool<double>.Shared.Rent(columns);
            for (var i = 0; i < tile.Rows; i++)
            {
                var weight = tile.WeightRow(i);
                var delta = tile.DeltaRow(i);
                for (var j = 0; j < columns; j++)
                {
                    now[j] = (double)weight[j] + delta[j];
                }

                var at = (int)(tile.Row + i);
                var block = blocks.AsSpan(at / rank * rank * rank, rank * rank);
                for (var j = 0; j < columns; j++)
                {
                    var (first, inner) = (j / rank * rank, j % rank);
                    var change = block[(at % rank * rank) + inner];
                    for (var k = 0; k < rank; k++)
                    {
                        change = Math.FusedMultiplyAdd(now[first + k], block[(k * rank) + inner], change);
                    }

                    delta[j] = (float)(delta[j] + change);
                }
            }

            ArrayPool<double>.Shared.Return(now);
        }
    }
}
