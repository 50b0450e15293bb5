using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>GLoRA: W + W⊙A + B and b + b⊙D + E + W·C, each path a product, a vector or a number (arXiv 2306.07967; PEFT 0.21).</summary>
internal sealed class GloraReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target) => target.IsBias
        ? new AddedReference(
            (rows, bias) =>
            {
                var (d, e) = (Path(module, 'D', target.Outputs, 1), Path(module, 'E', target.Outputs, 1));
                var change = bias.PointwiseMultiply(d.Pick(rows)) + e.Pick(rows);
                return HasPath(module, 'C') && target.Weight() is var weight ? change + (weight.Pick(rows) * Path(module, 'C', weight.ColumnCount, 1)) : change;
            },
            target.Factor)
        : new AddedReference(
            (rows, weight) => weight.PointwiseMultiply(Path(module, 'A', target.Outputs, target.Inputs).Pick(rows)) + Path(module, 'B', target.Outputs, target.Inputs).Pick(rows),
            target.Factor);

    private static bool HasPath(AdapterModule module, char path) => module.Has($"glora_{path}.X") || module.Has($"glora_{path}.Xd");

    // As torch broadcasts it: a product, a vector along the last dimension (or the rows of a bias), a number.
    private static Matrix<double> Path(AdapterModule module, char path, int rows, int columns)
    {
        if (module.Has($"glora_{path}.Xd"))
        {
            return module.Matrix($"glora_{path}.Xd") * module.Matrix($"glora_{path}.Xu");
        }

        if (!module.Has($"glora_{path}.X"))
        {
            return Matrix<double>.Build.Dense(rows, columns);
        }

        var (values, shape) = (module.Values($"glora_{path}.X"), module.Shape($"glora_{path}.X"));
        return Matrix<double>.Build.Dense(rows, columns, (i, j) =>
            values.Length == 1 ? values[0]
            : values.Length == (long)rows * columns ? values[(i * columns) + j]
            : shape.Count == 2 && shape[1] == 1 ? values[i]
            : values[j]);
    }
}
