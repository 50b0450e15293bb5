using UnslothMerge.Formats;

namespace UnslothMerge.PowerShell;

/// <summary>A tensor of a checkpoint.</summary>
public sealed class ModelTensor
{
    internal ModelTensor(FoundTensor tensor)
    {
        Name = tensor.Name;
        DType = tensor.Source.Type.ToString();
        Format = tensor.Source.Format;
        Shape = new TensorShape(tensor.Source.Shape);
        Bytes = tensor.Source.Inputs.Sum(i => i.Length);
        Shard = tensor.Source.Inputs[0].File.Name;
        Path = tensor.Source.Inputs[0].File.Path;
    }

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>The stored dtype, or the dtype that a quantized tensor decodes to.</summary>
    public string DType { get; }

    /// <summary>The stored format: the dtype, or a quantized format such as NF4.</summary>
    public string Format { get; }

    /// <summary>The shape.</summary>
    public TensorShape Shape { get; }

    /// <summary>The dimensions of the shape as numbers.</summary>
    public long[] Dimensions => [.. Shape.Dimensions];

    /// <summary>The elements.</summary>
    public long Parameters => Shape.Count;

    /// <summary>The stored bytes, including scales and codes.</summary>
    public long Bytes { get; }

    /// <summary>The layer's number; null outside the layers.</summary>
    public int? Layer => Models.TensorNames.Layer(Name);

    /// <summary>The module within its layer.</summary>
    public string Module => Models.TensorNames.Module(Name);

    /// <summary>The file's name.</summary>
    public string Shard { get; }

    /// <summary>The file's path.</summary>
    public string Path { get; }

    public override string ToString() => Name;
}
