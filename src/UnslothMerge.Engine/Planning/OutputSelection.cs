namespace UnslothMerge.Planning;

/// <summary>In what number format the caller wants the output.</summary>
internal abstract record OutputRequest
{
    /// <summary>Modules that are quantized although they would stay in 16 bits: names or their ends, with <c>*</c>, or
    /// <c>re:</c>.</summary>
    public IReadOnlyList<string> Include { get; init; } = [];

    /// <summary>Modules that stay in 16 bits.</summary>
    public IReadOnlyList<string> Exclude { get; init; } = [];

    /// <summary>Decides what that means for one merge; the dtype is that of all floating-point tensors that are not quantized, null keeps
    /// theirs.</summary>
    internal abstract OutputSelection Choose(MergePlan merge, TensorType? type);
}

/// <summary>Which tensors of one merge become what, and what the config says of it.</summary>
internal abstract class OutputSelection
{
    /// <summary>True if tensors that are not quantized keep the dtype that they have in the base, whatever it is.</summary>
    public virtual bool KeepsTypes => false;

    /// <summary>What it quantizes to, as people call it; null if it quantizes nothing that the base has not.</summary>
    public virtual string? Quantized => null;

    /// <summary>Which matrices it quantizes; null if it quantizes nothing that the base has not.</summary>
    public virtual LinearLayers? Layers => null;

    /// <summary>What to try if it quantizes nothing.</summary>
    public virtual string Advice => "Use merged to keep the base's own format, or merged_16bit.";

    /// <summary>How a tensor is stored; null for plain numbers of the given dtype.</summary>
    public abstract TensorSink? For(LogicalTensor tensor, TensorType type);

    /// <summary>The config of the output, from the merged model's with the base's own quantization.</summary>
    public abstract ModelConfig Configure(ModelConfig config);
}

/// <summary>Plain numbers only.</summary>
internal sealed class PlainSelection : OutputSelection
{
    public override TensorSink? For(LogicalTensor tensor, TensorType type) => null;

    public override ModelConfig Configure(ModelConfig config) => config.WithoutQuantization();
}
