using UnslothMerge.Tests.Simd;

namespace UnslothMerge.Tests.Verification;

/// <summary>Damages a saved model, each way in which one can be.</summary>
internal static class Damage
{
    /// <summary>Flips all bits of one byte of a tensor.</summary>
    public static void Flip(string directory, string tensor, int place) =>
        Rewrite(directory, t => t.Name == tensor ? t with { Bytes = [.. t.Bytes.Select((b, i) => i == place ? (byte)~b : b)] } : t);

    /// <summary>Changes a tensor's values, BF16 or F32.</summary>
    public static void Values(string directory, string tensor, Func<float[], float[]> change) => Rewrite(directory, t =>
        t.Name != tensor ? t
        : t.Type == TensorType.F32 ? TinyTensor.F32(t.Name, t.Shape, change(Decode(t)))
        : TinyTensor.BF16(t.Name, t.Shape, Array.ConvertAll(change(Decode(t)), v => StoredFloats.BFloat16(v))));

    /// <summary>A tensor's values, BF16 or F32.</summary>
    public static float[] Read(string directory, string tensor) => Decode(All(directory).Single(t => t.Name == tensor));

    /// <summary>Changes what adapters have added to a tensor.</summary>
    public static void Delta(string directory, string @base, string tensor, Func<float[], float[]> change)
    {
        var before = Read(@base, tensor);
        Values(directory, tensor, v => [.. before.Zip(change([.. v.Zip(before, (a, b) => a - b)]), (a, b) => a + b)]);
    }

    /// <summary>Exchanges what adapters have added to two tensors of one shape.</summary>
    public static void SwapDeltas(string directory, string @base, string first, string second)
    {
        float[] Of(string tensor) => [.. Read(directory, tensor).Zip(Read(@base, tensor), (a, b) => a - b)];
        var (ofFirst, ofSecond) = (Of(first), Of(second));
        Delta(directory, @base, first, _ => ofSecond);
        Delta(directory, @base, second, _ => ofFirst);
    }

    /// <summary>Edits a JSON file.</summary>
    public static void Json(string directory, string file, Action<JsonObject> edit)
    {
        var path = Path.Combine(directory, file);
        var json = (JsonObject)JsonNode.Parse(File.ReadAllText(path))!;
        edit(json);
        File.WriteAllText(path, json.ToJsonString());
    }

    /// <summary>Writes the weights of a one-file model anew.</summary>
    public static void Rewrite(
        string directory, Func<TinyTensor, TinyTensor?> change, Func<IReadOnlyList<TinyTensor>, TinyTensor>? added = null)
    {
        List<TinyTensor> tensors = [.. All(directory).Select(change).OfType<TinyTensor>()];
        TinyModel.WriteFile(Path.Combine(directory, "model.safetensors"), added is null ? [.. tensors] : [.. tensors, added(tensors)]);
    }

    private static List<TinyTensor> All(string directory)
    {
        using var files = new InputFiles();
        return [.. Checkpoint.Open(directory).Tensors.Select(t => new TinyTensor(t.Name, t.Type, [.. t.Shape], files.ReadAll(t)))];
    }

    private static float[] Decode(TinyTensor tensor) => Array.ConvertAll(PassRule.Decode(tensor.Type, tensor.Bytes), v => (float)v);
}
