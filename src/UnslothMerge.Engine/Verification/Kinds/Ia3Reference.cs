using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>IA3: the inputs of a feed-forward layer, or the outputs and the bias of any other, times a vector (arXiv 2205.05638; PEFT 0.21).</summary>
internal sealed class Ia3Reference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => module.Shape("ia3_l").Count > 2 ? (null, null) : ScalesInputs(module, null) ? (null, module.Values("ia3_l").Length) : (module.Values("ia3_l").Length, null);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var scales = module.Values("ia3_l");
        if (target.IsBias || !ScalesInputs(module, target))
        {
            return new MappedReference((rows, weight) => weight.TimesRows(Vector<double>.Build.Dense(rows.Count, i => scales[rows[i]])));
        }

        // Each group of a convolution's outputs has its own channels of the input.
        var channels = target.Shape.Count > 2 ? (int)target.Shape[1] : target.Inputs;
        var (kernel, groups) = (target.Inputs / channels, scales.Length / channels);
        return new MappedReference((rows, weight) => Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount, (i, j) =>
            weight[i, j] * scales[(rows[i] * groups / target.Outputs * channels) + (j / kernel)]));
    }

    private static bool ScalesInputs(AdapterModule module, ReferenceTarget? target)
    {
        var shape = module.Shape("ia3_l");
        if (shape.Count == 2 && target?.Shape.Count is null or 1 or 2 && shape.Count == 2 && shape[0] != shape[1])
        {
            return shape[0] == 1;
        }

        return module.Config["feedforward_modules"] switch
        {
            JsonArray list => list.Any(name => module.Name.EndsWith((string)name!, StringComparison.Ordinal)),
            JsonValue pattern => Regex.IsMatch(module.Name, $@"\A(?:{pattern})\z"),
            _ => false,
        };
    }
}
