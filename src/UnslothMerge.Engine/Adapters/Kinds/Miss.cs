using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>MiSS: W[o, c] + B[c mod r, o] with B [r, out]; with <c>init_weights</c> "mini" B [r, mini_r] is repeated over the outputs; with
/// "bat", B [out/r, r, r], each tile X of r × r in tile row p becomes X + X·B_p + B_p. Source: arXiv 2409.15371; PEFT 0.21,
/// <c>miss</c>.</summary>
internal sealed class Miss() : MatrixKind("MiSS", "MISS", [Blocks])
{
    private const string Blocks = "miss_block";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        AdaptedModule.Require(
            module.Weight.Shape.Count == 2, $"{module.Weight.Name} {module.Weight.Shape.Text()} is not the weight of a Linear layer");
        var blocks = module.Numbers(Blocks);
        var (outputs, inputs) = module.Features(transposed: false);
        var rank = (int)blocks.Shape[^1];
        var form = module.Config.Json.String("init_weights");
        if (form == "bat")
        {
            AdaptedModule.Require(
                blocks.Shape.Count == 3 && blocks.Shape[1] == rank && blocks.Shape[0] * rank == outputs && inputs % rank == 0,
                $"{Blocks} {blocks.Shape.Text()} does not fit the weight {module.Weight.Name} {module.Weight.Shape.Text()} in tiles "
                + "(init_weights is 'bat')");
            return new MatrixDelta([blocks], from => new StoredMatrix(from.Read(blocks), rank)) { Rank = rank };
        }

        AdaptedModule.Require(form is null or "mini", $"the init_weights '{form}' is not known");
        AdaptedModule.Require(
            blocks.Shape.Count == 2 && rank > 0 && outputs % rank == 0 && (form == "mini" || rank == outputs),
            $"{Blocks} {blocks.Shape.Text()} does not fit the weight {module.Weight.Name} "
            + $"{module.Weight.Shape.Text()}{(form is null ? "" : $" (init_weights is '{form}')")}");
        return new MatrixDelta([blocks], from => new Folded(from.Read(blocks), (int)blocks.Shape[0], rank)) { Rank = (int)blocks.Shape[0] };
    }

    protected override DeltaTerm Term(MatrixDelta delta, MatrixView view) =>
        delta.Inputs[0].Shape.Count == 3 ? new MissTilesTerm(Name, delta.Inputs[0], view) : base.Term(delta, view);

    private sealed class Folded(double[] blocks, int rank, int period) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            var at = 0;
            for (var row = block.Row; row < block.Row + block.Rows; row++)
            {
                for (var column = block.Column; column < block.Column + block.Columns; column++)
                {
                    values[at++] = blocks[(column % rank * period) + (row % period)];
                }
            }
        }
    }
}
