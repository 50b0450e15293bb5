using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>GraLoRA: k × k tiles, each of rank g = r/k, with A [k, in/k, r] and B [k, r, out/k]: tile (output b, input a) = (A[a][:,
/// b·g:(b+1)·g] · B[b][a·g:(a+1)·g, :])ᵀ. The hybrid form adds B_general·A_general of rank h. All times alpha/(r + h). Source: arXiv
/// 2505.20355; PEFT 0.21, <c>gralora</c>.</summary>
internal sealed class GraLora() : MatrixKind("GraLoRA", "GRALORA", ["gralora_A", "gralora_B", GeneralA, GeneralB])
{
    private const string GeneralA = "gralora_A_general.weight";
    private const string GeneralB = "gralora_B_general.weight";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b) = (module.Numbers("gralora_A", 3), module.Numbers("gralora_B", 3));
        var (count, rank) = ((int)a.Shape[0], (int)a.Shape[2]);
        AdaptedModule.Require(
            count > 0 && b.Shape[0] == count && b.Shape[1] == rank && rank % count == 0,
            $"gralora_A {a.Shape.Text()} and gralora_B {b.Shape.Text()} do not fit together");
        var (outputs, inputs) = (count * (int)b.Shape[2], count * (int)a.Shape[1]);
        var hybrid = (module.Config.Whole("hybrid_r") ?? 0);
        var (generalA, generalB) = (module.OptionalNumbers(GeneralA, 2), module.OptionalNumbers(GeneralB, 2));
        AdaptedModule.Require(
            hybrid > 0
                ? generalA?.Shape.SequenceEqual([hybrid, inputs]) == true && generalB?.Shape.SequenceEqual([outputs, hybrid]) == true
                : generalA is null && generalB is null,
            $"hybrid_r is {hybrid}, but {GeneralA} is {generalA?.Shape.Text() ?? "absent"} and {GeneralB} is "
            + $"{generalB?.Shape.Text() ?? "absent"}");
        return new MatrixDelta(generalA is null ? [a, b] : [a, b, generalA, generalB!], from =>
        {
            var tiles = new Tiles(
                TurnInner(from.Read(a), count, inputs / count, rank), from.Read(b), count, rank, outputs / count, inputs / count);
            return generalA is null
                ? tiles
                : new CombinedMatrix(
                    tiles, new ProductMatrix(from.Read(generalB!), from.Read(generalA), hybrid, inputs), isProduct: false);
        })
        {
            IsTransposed = module.IsTransposed(outputs, inputs),
            Rank = rank + hybrid,
            Scaling = module.Config.ValueOf(module.Name, "alpha") / (rank + hybrid),
        };
    }

    // [k, in/k, r] → [k, r, in/k], so that a row of a tile is a sum of rows.
    private static double[] TurnInner(double[] values, int count, int rows, int columns) =>
        [.. values.Chunk(rows * columns).Take(count).SelectMany(tile => Matrices.Transpose(tile, rows, columns))];

    private sealed class Tiles(double[] a, double[] b, int count, int rank, int tileOutputs, int tileInputs) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            var shared = rank / count;
            values[..block.Count].Clear();
            for (var i = 0; i < block.Rows; i++)
            {
                var (output, inner) = ((block.Row + i) / tileOutputs, (block.Row + i) % tileOutputs);
                for (var j = 0; j < block.Columns;)
                {
                    var (input, column) = ((block.Column + j) / tileInputs, (block.Column + j) % tileInputs);
                    var width = Math.Min(tileInputs - column, block.Columns - j);
                    var target = values.Slice((i * block.Columns) + j, width);
                    for (var t = 0; t < shared; t++)
                    {
                        var factor = b[(((output * rank) + (input * shared) + t) * tileOutputs) + inner];
                        var row = a.AsSpan((((input * rank) + (output * shared) + t) * tileInputs) + column, width);
                        TensorPrimitives.FusedMultiplyAdd(row, factor, target, target);
                    }

                    j += width;
                }
            }
        }
    }
}
