using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>DoRA's magnitude vector, which any LoRA layer may have. Source: DoRA (arXiv 2402.09353); PEFT 0.21, <c>lora.dora</c>.</summary>
internal static class Magnitude
{
    /// <summary>The part's name.</summary>
    public const string Vector = "lora_magnitude_vector";

    /// <summary>Its name in the state dict of the PeftModel.</summary>
    public const string RawVector = "lora_magnitude_vector.weight";

    /// <summary>The names it is stored under.</summary>
    public static IReadOnlyList<string> Parts { get; } = [Vector, RawVector];

    /// <summary>The module's magnitude vector, or null if it has none.</summary>
    public static StoredTensor? Find(ModuleAdapter module) => module.Find(Vector) ?? module.Find(RawVector);

    /// <summary>Adds what the magnitude vector changes, after the delta that it applies to.</summary>
    /// <param name="module">The module.</param>
    /// <param name="target">The plan.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="byColumn">True if an output is a column of the weight instead of a row.</param>
    /// <param name="outputs">The number of outputs.</param>
    public static void Bind(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, bool byColumn, long outputs)
    {
        var magnitude = Find(module);
        if (magnitude is not null && magnitude.Shape.Count() == outputs)
        {
            target.Add(weight, module.Module, new MagnitudeTerm(magnitude, byColumn), byColumn ? null : MatrixView.ByOutput(weight.Shape));
        }
        else if (magnitude is not null)
        {
            target.Problem(magnitude, $"{magnitude.Shape.Text()} is not one magnitude for each of the {outputs} outputs of {module.Module}");
        }
        else if (module.Config.IsSet("use_dora"))
        {
            target.Problem(module, $"the adapter is a DoRA (use_dora), but {module.Module} has no {Vector}");
        }
    }
}
