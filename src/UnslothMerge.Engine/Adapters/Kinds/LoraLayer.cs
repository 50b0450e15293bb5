using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoRA on a Linear layer, on transformers' Conv1D, or on a convolution: W + s·BA with A [r, in, …] and B [out, r, …]; with
/// <c>lora_bias</c> also b + s·bias; with a magnitude vector DoRA, with a diagonal KaSA. Source: LoRA (arXiv 2106.09685); PEFT 0.21,
/// <c>lora.Linear</c>, <c>lora.Conv1d</c> … <c>Conv3d</c>.</summary>
internal sealed class LoraLayer() : WeightKind("LoRA", "LORA", [A, B, Bias, Diagonal, .. Magnitude.Parts])
{
    public const string A = "lora_A.weight";
    public const string B = "lora_B.weight";
    public const string Bias = "lora_B.bias";

    // One per rank component: the singular values of KaSA's update.
    private const string Diagonal = "lora_diag";

    protected override ModuleChanges? Changes(AdaptedModule module, TargetTensor weight)
    {
        if ((module.Find(A) ?? module.Find(B)) is not { } factor || (weight.Shape.Count > 2 && factor.Shape.Count == 2))
        {
            return null;
        }

        AdaptedModule.Require(weight.Shape.Count >= 2, $"the weight {weight.Name} {weight.Shape.Text()} is not a matrix");
        var pair = module.Config.IsSet("use_qalora") ? Pooled(module, LoraPair.Of(module, A, B)) : LoraPair.Of(module, A, B);
        var bias = module.FindParameter("bias")?.Shape.Count();
        var type = module.Base.Layers.Of(module.Name, weight.Shape, bias, pair.Outputs, pair.Inputs, module.Config.IsSet("fan_in_fan_out"));
        RequireFit(type, weight, pair);
        var addedTwice = LoraAttention.AddedTwice(module);
        var delta = Delta(module, weight, type, addedTwice is null ? pair : pair with { Scaling = 2 * pair.Scaling });
        var magnitude = Magnitude.Of(module, weight, byColumn: type == LayerType.TransposedLinear, pair.Outputs);
        return new ModuleChanges([delta, .. magnitude, .. OfBias(module, pair)])
        {
            Warning = MergeWarning.Of(MergeWarningId.AddedTwice, addedTwice),
        };
    }

    // QALoRA averages the inputs of each group, and scales that by the number of groups. Source: PEFT 0.21, lora/variants.py.
    private static LoraPair Pooled(AdaptedModule module, LoraPair pair)
    {
        var group = (int)(module.Config.Json.Number("qalora_group_size") ?? 16);
        AdaptedModule.Require(
            group > 1 && pair.Inputs * group == module.Weight.Shape[^1] && module.Weight.Shape.Count == 2
                && pair.BlocksA * pair.BlocksB == 1 && !module.Config.IsSet("use_dora"),
            $"QALoRA (use_qalora) with groups of {group} inputs has an A [rank, in/{group}], and here A is {pair.A.Shape.Text()} and "
            + $"{module.Weight.Name} {module.Weight.Shape.Text()}");
        return pair with { Group = group, Scaling = pair.Scaling * pair.Inputs / group };
    }

    private static TensorChange Delta(AdaptedModule module, TargetTensor weight, LayerType type, LoraPair pair)
    {
        if (module.Has(Diagonal) || module.Config.IsSet("kasa_config"))
        {
            return Kasa(module, weight, type, pair);
        }

        var (kind, transposed) = (Magnitude.KindOf(module), type == LayerType.TransposedLinear);
        DeltaTerm delta = pair.BlocksA > 1 || pair.BlocksB > 1
            ? new BlockDiagonalTerm(kind, pair.B, pair.BlocksB, pair.A, pair.BlocksA, pair.Scaling)
            : pair.Delta(kind, transposed);
        return new TensorChange(weight, delta, transposed ? null : MatrixView.ByOutput(weight.Shape));
    }

    private static TensorChange Kasa(AdaptedModule module, TargetTensor weight, LayerType type, LoraPair pair)
    {
        var diagonal = module.Find(Diagonal);
        AdaptedModule.Require(
            diagonal is not null && diagonal.Shape.Count() == pair.Rank && pair.Rank < weight.Shape.Min() && type == LayerType.Linear,
            $"KaSA needs a {Diagonal} [{pair.Rank}] and a Linear layer with more than {pair.Rank} inputs and outputs; {module.Name} has "
            + $"{diagonal?.Shape.Text() ?? "none"} and {weight.Name} {weight.Shape.Text()}");
        return new TensorChange(weight, new KasaTerm(pair.B, diagonal!, pair.A, pair.Scaling));
    }

    private IEnumerable<TensorChange> OfBias(AdaptedModule module, LoraPair pair)
    {
        if (module.Find(Bias) is not { } bias)
        {
            return [];
        }

        var target = module.RequireBias(bias);
        AdaptedModule.Require(
            bias.Shape.SequenceEqual([pair.Outputs]) && target.Shape.Count() == pair.Outputs,
            $"{bias.Shape.Text()} does not fit {target.Name} {target.Shape.Text()}",
            bias);
        return [new TensorChange(target, new VectorTerm(Name, bias, pair.Scaling))];
    }

    private static void RequireFit(LayerType type, TargetTensor weight, LoraPair pair)
    {
        var (a, b) = (pair.A.Shape, pair.B.Shape);
        if (type != LayerType.Convolution)
        {
            long[] delta = type == LayerType.TransposedLinear ? [pair.Inputs, pair.Outputs] : [pair.Outputs, pair.Inputs];
            AdaptedModule.Require(
                a.Count == 2 && b.Count == 2 && weight.Shape.SequenceEqual(delta),
                $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}");
            AdaptedModule.Require(
                type == LayerType.Linear || (pair.BlocksA == 1 && pair.BlocksB == 1 && pair.Group == 1),
                "BD-LoRA (use_bdlora) and QALoRA (use_qalora) are for Linear layers only");
            return;
        }

        AdaptedModule.Require(
            a.Count == weight.Shape.Count && b[0] == weight.Shape[0] && b.Skip(2).All(k => k == 1)
                && a.Skip(2).SequenceEqual(weight.Shape.Skip(2)),
            $"lora_A {a.Text()} and lora_B {b.Text()} do not make a delta for the convolution {weight.Name} {weight.Shape.Text()}");
        AdaptedModule.Require(
            a[1] == weight.Shape[1],
            $"{weight.Name} {weight.Shape.Text()} is a convolution with groups: lora_A {a.Text()} reads {a[1]} input channels, the weight "
            + $"only {weight.Shape[1]}, so it cannot hold the delta");
    }
}
