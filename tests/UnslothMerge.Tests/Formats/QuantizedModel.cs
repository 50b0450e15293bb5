namespace UnslothMerge.Tests.Formats;

/// <summary>Writes tiny quantized models, and reads any model's values as the engine decodes them.</summary>
internal static class QuantizedModel
{
    /// <summary>Writes a model with a quantization.</summary>
    public static string Write(string directory, string quantization, params TinyTensor[] tensors)
    {
        TinyModel.Base(directory, tensors);
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(directory, "config.json")))!.AsObject();
        config["dtype"] = "bfloat16";
        config["quantization_config"] = JsonNode.Parse(quantization);
        File.WriteAllText(Path.Combine(directory, "config.json"), config.ToJsonString());
        return directory;
    }

    /// <summary>Saves a model in a format; every tensor is computed, as if something had changed it, if <paramref name="computed"/> says
    /// so.</summary>
    public static IReadOnlyList<UnslothMerge.Execution.TensorResult> Save(string @base, string output, OutputRequest request,
        bool computed, params string[] adapters)
    {
        var plan = TinyModel.Plan(@base, adapters);
        var tensors = plan.Tensors.Select(t => computed && t.Source.Verbatim is null ? t with { Action = TensorAction.Merge } : t).ToList();
        var write = WritePlan.Create(plan, tensors, new WriteOptions(null, 5_000_000_000) { Quantization = request });
        return [.. TinyModel.Save(write, output).SelectMany(s => s.Tensors)];
    }

    /// <summary>The stored bytes of every tensor, by name.</summary>
    public static SortedDictionary<string, string> Stored(string directory)
    {
        using var files = new InputFiles();
        return new(Checkpoint.Open(directory).Tensors.ToDictionary(t => t.Name,
            t => $"{t.Type} {t.Shape.Text()} {Convert.ToHexString(files.ReadAll(t))}"), StringComparer.Ordinal);
    }

    /// <summary>The values of every floating-point tensor, by name.</summary>
    public static SortedDictionary<string, float[]> Values(string directory)
    {
        using var files = new InputFiles();
        return new(StoredFormats.Read(ModelDirectory.Open(directory)).ToDictionary(t => t.Name, t => Decode(t.Source, files)),
            StringComparer.Ordinal);
    }

    private static float[] Decode(TensorSource source, InputFiles files)
    {
        var view = MatrixView.Of(source.Shape);
        var (values, stored) = (new float[view.Count], new byte[source.BytesOf(view, (int)view.Rows)]);
        using var reader = source.Open(files, view);
        reader.Read(0, (int)view.Rows, stored);
        reader.Decode(stored, 0, (int)view.Rows, new Tile(values, default, 0, (int)view.Rows, 0, view.Columns));
        return values;
    }
}
