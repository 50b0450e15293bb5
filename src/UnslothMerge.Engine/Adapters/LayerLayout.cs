using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>How a layer's weight is stored.</summary>
/// <param name="Outputs">The layer's outputs; the rows of an embedding.</param>
/// <param name="Inputs">The layer's inputs, times the kernel's size for a convolution; the columns of an embedding.</param>
/// <param name="InputFirst">True for [inputs, outputs], as transformers' Conv1D stores it; false for [outputs, inputs, …].</param>
public readonly record struct LayerLayout(long Outputs, long Inputs, bool InputFirst)
{
    /// <summary>The matrix that tiles are cut from.</summary>
    public MatrixView View => InputFirst ? new MatrixView(Inputs, checked((int)Outputs)) : new MatrixView(Outputs, checked((int)Inputs));

    /// <summary>Finds out how a weight is stored.</summary>
    /// <param name="module">The adapter's module.</param>
    /// <param name="target">The plan in the making.</param>
    /// <param name="weight">The weight: a matrix, or a convolution's [outputs, inputs / groups, kernel …].</param>
    /// <param name="outputs">The outputs, if the adapter's tensors tell.</param>
    /// <param name="inputs">The inputs (times the kernel's size), if they tell.</param>
    /// <returns>Null if the sizes do not fit.</returns>
    public static LayerLayout? Of(ModuleAdapter module, IAdapterTarget target, TargetTensor weight, long? outputs, long? inputs)
    {
        if (weight.Shape.Count < 2 || weight.Shape.Count() == 0)
        {
            return null;
        }

        var (first, rest) = (weight.Shape[0], weight.Shape.Count() / weight.Shape[0]);
        var bias = target.Find(module.Module, "bias")?.Shape.Count();
        var layout = target.Layers.Of(module.Module, weight.Shape, bias, outputs, inputs, module.Config.IsSet("fan_in_fan_out")) == LayerType.TransposedLinear
            ? new LayerLayout(rest, first, InputFirst: true)
            : new LayerLayout(first, rest, InputFirst: false);
        return (outputs ?? layout.Outputs) == layout.Outputs && (inputs ?? layout.Inputs) == layout.Inputs ? layout : null;
    }
}
