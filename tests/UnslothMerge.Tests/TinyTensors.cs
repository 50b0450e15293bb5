namespace UnslothMerge.Tests;

/// <summary>F32 tensors by name, written as the files of a model or an adapter.</summary>
internal sealed class TinyTensors : Dictionary<string, (long[] Shape, float[] Values)>
{
    public void Add(string name, long[] shape, Func<int[], double> value)
    {
        var count = (int)shape.Aggregate(1L, (a, b) => a * b);
        var values = new float[count];
        var index = new int[shape.Length];
        for (var i = 0; i < count; i++)
        {
            var rest = i;
            for (var d = shape.Length - 1; d >= 0; d--)
            {
                index[d] = (int)(rest % shape[d]);
                rest /= (int)shape[d];
            }

            values[i] = (float)value(index);
        }

        Add(name, (shape, values));
    }

    /// <summary>Writes config.json and model.safetensors.</summary>
    public string WriteModel(string directory, JsonObject config) => Write(directory, "config.json", config, "model.safetensors");

    /// <summary>Writes adapter_config.json and adapter_model.safetensors.</summary>
    public string WriteAdapter(string directory, JsonObject config) =>
        Write(directory, "adapter_config.json", config, "adapter_model.safetensors");

    private string Write(string directory, string configName, JsonObject config, string weightsName)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, configName), config.ToJsonString());
        TinyModel.WriteFile(Path.Combine(directory, weightsName),
            [.. this.Select(t => TinyTensor.F32(t.Key, t.Value.Shape, t.Value.Values))]);
        return directory;
    }
}
