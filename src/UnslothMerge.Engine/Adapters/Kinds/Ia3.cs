using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>IA3: one vector scales a layer's outputs, its bias among them, or, in feed-forward modules, its inputs. The shape shows which
/// for a Linear ([out, 1] or [1, in]); for a convolution ([1, n, 1 …]) only the config does. Source: IA3 (arXiv 2205.05638); PEFT 0.21,
/// <c>IA3Layer</c>.</summary>
internal sealed class Ia3() : WeightKind("IA3", "IA3", [Vector])
{
    private const string Vector = "ia3_l";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var vector = module.Part(Vector);
        var feedForward = IsFeedForward(module, vector, weight) ?? throw new MisfitException(
            $"neither its shape {vector.Shape.Text()} nor feedforward_modules in adapter_config.json says whether it scales the inputs or "
            + $"the outputs of {module.Name}");
        var view = weight.Shape.Count > 2 ? MatrixView.ByOutput(weight.Shape) : (MatrixView?)null;
        var index = view is { } matrix ? OfConvolution(weight, vector, feedForward, matrix) : OfLinear(module, vector, feedForward);
        AdaptedModule.Require(
            index is not null,
            $"{vector.Shape.Text()} does not fit the {(feedForward ? "inputs" : "outputs")} of {weight.Name} {weight.Shape.Text()}");
        var change = new TensorChange(weight, new ScaleTerm(Name, vector, index.Value), view);
        if (feedForward || module.FindParameter("bias") is not { } bias)
        {
            return new ModuleChanges(change);
        }

        AdaptedModule.Require(
            bias.Shape.Count() == vector.Shape.Count(), $"{vector.Shape.Text()} does not fit {bias.Name} {bias.Shape.Text()}");
        return new ModuleChanges(change, new TensorChange(bias, new ScaleTerm(Name, vector, ScaleIndex.ByColumn)));
    }

    private static ScaleIndex? OfLinear(AdaptedModule module, StoredTensor vector, bool feedForward)
    {
        var length = vector.Shape.Count();
        return LayerLayout.Of(module, feedForward ? null : length, feedForward ? length : null) is not { } layout ? null
            : feedForward == layout.InputFirst ? ScaleIndex.ByRow : ScaleIndex.ByColumn;
    }

    private static ScaleIndex? OfConvolution(TargetTensor weight, StoredTensor vector, bool feedForward, MatrixView view)
    {
        var (outputs, inputs, length) = (weight.Shape[0], weight.Shape[1], vector.Shape.Count());
        if (!feedForward)
        {
            return length == outputs ? ScaleIndex.ByRow : null;
        }

        // Each group of outputs sees its own channels of the input, and the weight holds only those.
        var groups = inputs > 0 ? length / inputs : 0;
        return groups < 1 || length % inputs != 0 || outputs % groups != 0
            ? null
            : new ScaleIndex(outputs / groups, inputs, view.Columns / inputs, 1);
    }

    private static bool? IsFeedForward(AdaptedModule module, StoredTensor vector, TargetTensor weight) =>
        weight.Shape.Count == 2 && vector.Shape.Count == 2 && vector.Shape[0] != vector.Shape[1] && vector.Shape.Contains(1)
            ? vector.Shape[0] == 1
            : ByConfig(module);

    // PEFT: a list matches the ends of names, a text is a regular expression for whole names.
    private static bool? ByConfig(AdaptedModule module)
    {
        const string option = "feedforward_modules";
        switch (module.Config.Json[option])
        {
            case null:
                return null;
            case JsonArray:
                return module.Config.Json.Strings(option).Any(name => module.Name.EndsWith(name, StringComparison.Ordinal));
            default:
                return module.Config.Json.String(option) is not { } pattern ? null
                    : new ForeignPattern(
                        $@"\A(?:{pattern})\z", MergeError.InvalidAdapter, $"{option} '{pattern}' in adapter_config.json", pattern)
                        .IsMatch(module.Name);
        }
    }
}
