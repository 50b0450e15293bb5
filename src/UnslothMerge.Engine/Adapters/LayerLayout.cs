namespace UnslothMerge.Adapters;

/// <summary>How a layer's weight is stored: [inputs, outputs] as transformers' Conv1D does, else [outputs, inputs, …]. Inputs are times the
/// kernel's size for a convolution. An embedding's outputs are its rows, its inputs its columns.</summary>
internal sealed record LayerLayout(long Outputs, long Inputs, bool InputFirst)
{
    /// <summary>The matrix that tiles are cut from.</summary>
    public MatrixView View => InputFirst ? new MatrixView(Inputs, checked((int)Outputs)) : new MatrixView(Outputs, checked((int)Inputs));

    /// <summary>Finds out how a module's weight, a matrix or a convolution's [outputs, inputs / groups, kernel …], is stored; null if the
    /// sizes that the adapter's tensors have do not fit.</summary>
    public static LayerLayout? Of(AdaptedModule module, long? outputs, long? inputs)
    {
        var shape = module.Weight.Shape;
        if (shape.Count < 2 || shape.Count() == 0)
        {
            return null;
        }

        var (first, rest) = (shape[0], shape.Count() / shape[0]);
        var bias = module.FindParameter("bias")?.Shape.Count();
        var layout = module.Base.Layers.Of(
            module.Name, shape, bias, outputs, inputs, module.Config.IsSet("fan_in_fan_out")) == LayerType.TransposedLinear
            ? new LayerLayout(rest, first, InputFirst: true)
            : new LayerLayout(first, rest, InputFirst: false);
        return (outputs ?? layout.Outputs) == layout.Outputs && (inputs ?? layout.Inputs) == layout.Inputs ? layout : null;
    }
}
