using UnslothMerge.Adapters.Terms;

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

    /// <summary>The kind of a module's delta.</summary>
    public static string KindOf(AdaptedModule module) => Find(module) is null ? "LoRA" : "DoRA";

    /// <summary>What the magnitude vector changes, after the delta that it applies to; nothing if the module has none. By column: an output
    /// is a column of the weight instead of a row.</summary>
    public static IEnumerable<TensorChange> Of(AdaptedModule module, TargetTensor weight, bool byColumn, long outputs)
    {
        if (Find(module) is not { } magnitude)
        {
            AdaptedModule.Require(!module.Config.IsSet("use_dora"), $"the adapter is a DoRA (use_dora), but {module.Name} has no {Vector}");
            return [];
        }

        AdaptedModule.Require(
            magnitude.Shape.Count() == outputs,
            $"{magnitude.Shape.Text()} is not one magnitude for each of the {outputs} outputs of {module.Name}", magnitude);
        return [new TensorChange(weight, new MagnitudeTerm(magnitude, byColumn), byColumn ? null : MatrixView.ByOutput(weight.Shape))];
    }

    private static StoredTensor? Find(AdaptedModule module) => module.Find(Vector) ?? module.Find(RawVector);
}
