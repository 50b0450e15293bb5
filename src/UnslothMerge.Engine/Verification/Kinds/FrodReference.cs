using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>FRoD: W·V⁻ᵀ with unit columns is U; U·(S + diag(λ))·Vᵀ takes the weight's place (PEFT 0.21).</summary>
internal sealed class FrodReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (null, module.Shape("frod_lambda_l")[0]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var category = Category(module.Name);
        var v = module.Shared($"frod_V.{category}");
        var indices = module.Shared($"frod_s_indices.{category}");
        var values = module.Values("frod_lambda_s_values");
        var core = Matrix<double>.Build.DenseOfDiagonalVector(module.Vector("frod_lambda_l"));
        for (var n = 0; n < values.Length; n++)
        {
            core[(int)indices[0, n], (int)indices[1, n]] += values[n];
        }

        return new AddedReference(
            (_, weight) =>
            {
                var u = v.Solve(weight.Transpose()).Transpose();
                u = u.TimesColumns(Vector<double>.Build.Dense(u.ColumnCount, j => u.Column(j).L2Norm() is > 1e-12 and var norm ? 1 / norm : 0));
                return (u * core).TransposeAndMultiply(v) - weight;
            },
            target.Factor)
        { All = true };
    }

    private static string Category(string module) => module.Split('.') switch
    {
        [.., "attention", "output", "dense"] => "attention_output",
        [.., var parent, var last] when !parent.All(char.IsAsciiDigit) => $"{parent}_{last}",
        [.., var last] => last,
        _ => module,
    };
}
