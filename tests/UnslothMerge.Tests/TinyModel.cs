using System.Security.Cryptography;

namespace UnslothMerge.Tests;

/// <summary>A tensor to put into a test's file.</summary>
internal sealed record TinyTensor(string Name, TensorType Type, long[] Shape, byte[] Bytes)
{
    public static TinyTensor F32(string name, long[] shape, params float[] values) =>
        new(name, TensorType.F32, shape, MemoryMarshal.AsBytes<float>(values).ToArray());

    /// <summary>F32, from values that fp32 can hold.</summary>
    public static TinyTensor F32(string name, long[] shape, double[] values) => F32(name, shape, Array.ConvertAll(values, v => (float)v));

    public static TinyTensor BF16(string name, long[] shape, params ushort[] bits) =>
        new(name, TensorType.BF16, shape, MemoryMarshal.AsBytes<ushort>(bits).ToArray());

    /// <summary>Values that look like weights, the same for the same seed.</summary>
    public static TinyTensor Random(string name, long[] shape, int seed)
    {
        var random = new Random(seed);
        return F32(name, shape, [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => (float)((random.NextDouble() - 0.5) * 0.1))]);
    }
}

/// <summary>Makes models and adapters for tests that no fixture serves, and saves merges of them.</summary>
internal static class TinyModel
{
    /// <summary>Writes a safetensors file.</summary>
    public static void WriteFile(string path, params TinyTensor[] tensors)
    {
        var layout = new ShardLayout(tensors.Select(t => new TensorSpec(t.Name, t.Type, t.Shape)),
            new Dictionary<string, string> { ["format"] = "pt" });
        using var stream = File.Create(path);
        stream.Write(layout.Header);
        foreach (var tensor in layout.Tensors.Select(s => tensors.Single(t => t.Name == s.Name)))
        {
            stream.Write(tensor.Bytes);
        }
    }

    /// <summary>Writes a file from the text of a header and some data.</summary>
    public static void WriteRaw(string path, ReadOnlySpan<byte> json, int data)
    {
        var bytes = new byte[8 + json.Length + data];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, json.Length);
        json.CopyTo(bytes.AsSpan(8));
        File.WriteAllBytes(path, bytes);
    }

    /// <summary>A model directory of one file.</summary>
    public static string Base(string directory, params TinyTensor[] tensors)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "config.json"), """{"architectures": ["TinyForCausalLM"], "model_type": "tiny"}""");
        WriteFile(Path.Combine(directory, "model.safetensors"), tensors);
        return directory;
    }

    /// <summary>A LoRA adapter with alpha = rank, so that its scaling is 1.</summary>
    public static string Lora(string directory, int rank, params TinyTensor[] tensors)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "adapter_config.json"),
            $$"""{"peft_type": "LORA", "r": {{rank}}, "lora_alpha": {{rank}}}""");
        WriteFile(Path.Combine(directory, "adapter_model.safetensors"), tensors);
        return directory;
    }

    public static MergePlan Plan(string @base, params string[] adapters) =>
        MergePlanner.Plan(ModelDirectory.Open(@base), adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a), 1)));

    public static WritePlan WritePlan(MergePlan plan, TensorType? type = null, long shard = 5_000_000_000) =>
        UnslothMerge.Planning.WritePlan.Create(plan, plan.Tensors, new WriteOptions(type, shard));

    /// <summary>Saves a merge beside whatever else is in a directory.</summary>
    public static IReadOnlyList<SavedShard> Save(WritePlan plan, string output, int workers = 2,
        IProgress<UnslothMerge.Execution.MergeProgress>? progress = null, CancellationTokenSource? stop = null) =>
        ModelSaver.Save(
            Destination.Check(output, [("base", plan.Merge.Base.Path)], force: false),
            "merged_16bit",
            new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers), Sync: false),
            progress,
            stop?.Token ?? TestContext.Current.CancellationToken);

    /// <summary>Everything in a directory: relative path and hash of each file, in order.</summary>
    public static string Fingerprint(string directory) =>
        string.Join('\n', Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories)
        .Select(f => $"{Path.GetRelativePath(directory, f)} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))}")
        .Order(StringComparer.Ordinal));
}
