using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>LoKr: W + alpha/r·kron(w1, w2), as torch.kron reads tensors of unequal dimensions (arXiv 2309.14859; PEFT 0.21).</summary>
internal sealed class LoKrReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var rank = module.Has("lokr_w2_b") ? module.Shape("lokr_w2_b")[0] : module.Has("lokr_w1_b") ? module.Shape("lokr_w1_b")[0] : module.Number("r", "rank_pattern");
        var scale = module.Number("alpha", "alpha_pattern") / rank;
        var first = module.Has("lokr_w1") ? module.Matrix("lokr_w1") : module.Matrix("lokr_w1_a") * module.Matrix("lokr_w1_b");
        var second = module.Has("lokr_w2") ? module.Matrix("lokr_w2") : LoHaReference.Factor(module, "lokr_w2_a", "lokr_w2_b", "lokr_t2");
        return new AddedReference(
            module.Has("lokr_w2") && module.Shape("lokr_w2") is [_, _, var kernel]
                ? (rows, _) => Matrices.Make(rows, target.Inputs, (i, j) => scale * Padded(first, second, (int)kernel, (i * target.Inputs) + j))
                : (rows, _) => Matrices.Make(rows, target.Inputs, (i, j) => scale * first[(int)(i / second.RowCount), (int)(j / second.ColumnCount)] * second[(int)(i % second.RowCount), (int)(j % second.ColumnCount)]),
            target.Factor);
    }

    // w1 [a, b] counts as [1, a, b] beside w2 [c, d, k]: the product is [c, a·d, b·k], taken for the weight in the order of its values.
    private static double Padded(Matrix<double> first, Matrix<double> second, int kernel, long flat)
    {
        var (channels, width) = (second.ColumnCount / kernel, first.ColumnCount * kernel);
        var (x, y, z) = ((int)(flat % width), (int)(flat / width % (first.RowCount * channels)), (int)(flat / width / (first.RowCount * channels)));
        return first[y / channels, x / kernel] * second[z, (y % channels * kernel) + (x % kernel)];
    }
}
