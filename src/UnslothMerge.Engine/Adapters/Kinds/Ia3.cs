using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// IA3: one vector scales a layer's outputs, its bias among them, or, in feed-forward modules, its inputs. The shape tells which for a Linear
/// ([out, 1] or [1, in]); for a convolution ([1, n, 1 …]) only the config does. Source: IA3 (arXiv 2205.05638); PEFT 0.21, <c>IA3Layer</c>.
/// </summary>
public sealed class Ia3 : AdapterKind
{
    private const string Vector = "ia3_l";

    /// <inheritdoc/>
    public override string Name => "IA3";

    /// <inheritdoc/>
    public override string PeftType => "IA3";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Vector];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        var vector = module.Tensors[Vector];
        if (IsFeedForward(module, vector, weight) is not { } feedForward)
        {
            target.Problem(vector, $"neither its shape {vector.Shape.Text()} nor feedforward_modules in adapter_config.json says whether it scales the inputs or the outputs of {module.Module}");
        }
        else if (weight.Shape.Count > 2)
        {
            BindConvolution(module, target, weight, vector, feedForward);
        }
        else
        {
            BindLinear(module, target, weight, vector, feedForward);
        }

        return true;
    }

    private void BindLinear(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, StoredTensor vector, bool feedForward)
    {
        var length = vector.Shape.Count();
        if (LayerLayout.Of(module, target, weight, feedForward ? null : length, feedForward ? length : null) is not { } layout)
        {
            target.Problem(vector, Misfit(vector, weight, feedForward));
            return;
        }

        target.Add(weight, module.Module, new ScaleTerm(Name, vector, feedForward == layout.InputFirst ? ScaleIndex.ByRow : ScaleIndex.ByColumn));
        BindBias(module, target, vector, feedForward);
    }

    private void BindConvolution(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, StoredTensor vector, bool feedForward)
    {
        var view = MatrixView.ByOutput(weight.Shape);
        var (outputs, inputs, length) = (weight.Shape[0], weight.Shape[1], vector.Shape.Count());

        // Each group of outputs sees its own channels of the input, and the weight holds only those.
        var groups = inputs > 0 ? length / inputs : 0;
        if (feedForward ? groups < 1 || length % inputs != 0 || outputs % groups != 0 : length != outputs)
        {
            target.Problem(vector, Misfit(vector, weight, feedForward));
            return;
        }

        var index = feedForward ? new ScaleIndex(outputs / groups, inputs, view.Columns / inputs, 1) : ScaleIndex.ByRow;
        target.Add(weight, module.Module, new ScaleTerm(Name, vector, index), view);
        BindBias(module, target, vector, feedForward);
    }

    private void BindBias(ModuleAdapter module, IAdapterTarget target, StoredTensor vector, bool feedForward)
    {
        if (!feedForward && target.Find(module.Module, "bias") is { } bias)
        {
            if (bias.Shape.Count() != vector.Shape.Count())
            {
                target.Problem(vector, $"{vector.Shape.Text()} does not fit {bias.Name} {bias.Shape.Text()}");
                return;
            }

            target.Add(bias, module.Module, new ScaleTerm(Name, vector, ScaleIndex.ByColumn));
        }
    }

    private static string Misfit(StoredTensor vector, TargetTensor weight, bool feedForward) =>
        $"{vector.Shape.Text()} does not fit the {(feedForward ? "inputs" : "outputs")} of {weight.Name} {weight.Shape.Text()}";

    private static bool? IsFeedForward(ModuleAdapter module, StoredTensor vector, TargetTensor weight) =>
        weight.Shape.Count == 2 && vector.Shape.Count == 2 && vector.Shape[0] != vector.Shape[1] && vector.Shape.Contains(1) ? vector.Shape[0] == 1 : ByConfig(module);

    // PEFT: a list matches the ends of names, a text is a regular expression for whole names.
    private static bool? ByConfig(ModuleAdapter module)
    {
        const string option = "feedforward_modules";
        switch (module.Config.Json[option])
        {
            case null:
                return null;
            case JsonArray:
                return module.Config.Json.Strings(option).Any(name => module.Module.EndsWith(name, StringComparison.Ordinal));
            default:
                var pattern = module.Config.Json.String(option);
                try
                {
                    return pattern is null ? null : Regex.IsMatch(module.Module, $@"\A(?:{pattern})\z", RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
                }
                catch (Exception e) when (e is ArgumentException or RegexMatchTimeoutException)
                {
                    throw new MergeException(MergeError.InvalidAdapter, $"{option} '{pattern}' in adapter_config.json cannot be used as a regular expression: {e.Message}", pattern, inner: e);
                }
        }
    }
}
