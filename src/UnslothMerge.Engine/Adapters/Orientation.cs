using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>
/// Decides how a layer stores its weight: [out, in] as torch's Linear, or [in, out] as transformers' Conv1D (GPT-2). The layer's type decides;
/// as it is not in the files, the shapes do, and where they cannot (a square weight), what the adapter's config says.
/// </summary>
public static class Orientation
{
    /// <summary>Compares a weight with the delta it is to receive.</summary>
    /// <param name="weight">The weight, convolutions included.</param>
    /// <param name="bias">The layer's bias, if it has one; Conv1D always has.</param>
    /// <param name="config">The adapter's config.</param>
    /// <param name="outputs">The delta's outputs, if known.</param>
    /// <param name="inputs">The delta's inputs (times the kernel), if known.</param>
    /// <returns>True if the weight is stored transposed, false if not, null if the delta fits neither way.</returns>
    public static bool? IsTransposed(TargetTensor weight, TargetTensor? bias, AdapterConfig config, long? outputs, long? inputs)
    {
        var first = weight.Shape[0];
        var rest = first == 0 ? 0 : weight.Shape.Count() / first;
        var natural = Fits(outputs, first) && Fits(inputs, rest);
        var turned = weight.Shape.Count == 2 && Fits(outputs, rest) && Fits(inputs, first);
        if (!natural || !turned)
        {
            return natural ? false : turned ? true : null;
        }

        return bias is not null && (first == rest ? config.Json.Bool("fan_in_fan_out") ?? false : bias.Shape.Count() == rest);
    }

    private static bool Fits(long? expected, long actual) => expected is null || expected == actual;
}
