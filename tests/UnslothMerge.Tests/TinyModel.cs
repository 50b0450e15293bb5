using System.Security.Cryptography;

namespace UnslothMerge.Tests;

/// <summary>A model and its adapters, built in memory; written, planned and merged where a test says.</summary>
internal sealed class TinyModel(string config, params TinyTensor[] tensors)
{
    private const long UsualShard = 5_000_000_000;

    // UNSLOTHMERGE_SHARDS=base runs the tests in the layout that keeps the base's shards.
    private static readonly bool KeepsShards = Environment.GetEnvironmentVariable("UNSLOTHMERGE_SHARDS") == "base";

    private const string Plain = """{"architectures": ["Tiny"], "model_type": "custom"}""";

    private readonly List<(JsonObject Config, TinyTensor[] Tensors, double Weight)> _adapters = [];

    public TinyModel(params TinyTensor[] tensors)
        : this(Plain, tensors)
    {
    }

    /// <summary>The plan of the last merge.</summary>
    public MergePlan? Planned { get; private set; }

    /// <summary>Adds an adapter: by default LoRA with an alpha of 1; the names of its tensors get <c>base_model.model.</c></summary>
    public TinyModel With(string config, double weight, params TinyTensor[] tensors)
    {
        var json = JsonNode.Parse(config)!.AsObject();
        json.TryAdd("peft_type", "LORA");
        json.TryAdd("lora_alpha", 1);
        _adapters.Add((json, [.. tensors.Select(t =>
            t.Name.StartsWith("base_model.", StringComparison.Ordinal) ? t : t with { Name = "base_model.model." + t.Name })], weight));
        return this;
    }

    public TinyModel With(string config, params TinyTensor[] tensors) => With(config, 1, tensors);

    /// <summary>Adds LoRA with a scaling of 1 on some modules: random factors that fit.</summary>
    public TinyModel WithLora(int rank, params string[] modules) => With($$"""{"r": {{rank}}, "lora_alpha": {{rank}}}""",
        [.. modules.SelectMany((m, i) => tensors.Single(t => t.Name == m + ".weight").Shape is var shape
            ? TinyTensor.Lora(m, new Random(i).Scaled(0.05, rank, shape[1]), new Random(~i).Scaled(0.05, shape[0], rank)) : [])]);

    /// <summary>Adds b · a to a module: LoRA of rank 1 with a scaling of 1.</summary>
    public TinyModel WithLora(string module, float[] a, float[] b) => With("""{"r": 1}""",
        TinyTensor.Lora(module, Numbers.Of([1, a.Length], i => a[i]), Numbers.Of([b.Length, 1], i => b[i])));

    /// <summary>Writes <c>base</c> and <c>adapter</c>, <c>adapter1</c>, …</summary>
    public IReadOnlyList<string> Write(TemporaryDirectory directory)
    {
        Base(directory["base"], config, tensors);
        return [.. _adapters.Select((a, i) => Adapter(directory[i == 0 ? "adapter" : $"adapter{i}"], a.Config.ToJsonString(), a.Tensors))];
    }

    /// <summary>Writes all of it and plans the merge.</summary>
    public MergePlan Plan(TemporaryDirectory directory, PlanOptions? options = null)
    {
        var steps = Write(directory).Zip(_adapters, (path, a) => new AdapterStep(AdapterDirectory.Open(path), a.Weight));
        return Planned = MergePlanner.Plan(ModelDirectory.Open(directory["base"]), steps, options);
    }

    /// <summary>Merges, and gives the values that were saved as F32.</summary>
    public Dictionary<string, double[]> Merge(PlanOptions? options = null)
    {
        using var directory = new TemporaryDirectory();
        Save(WritePlan(Plan(directory, options), TensorType.F32), directory["out"]);
        using var files = new InputFiles();
        return Checkpoint.Open(directory["out"]).Tensors.ToDictionary(t => t.Name,
            t => Array.ConvertAll(files.ReadAll<float>(t), v => (double)v));
    }

    /// <summary>Merges as F32, and fails unless the reference formulas of Test-MergedModel give every value. They are written apart from
    /// the terms. All adapted tensors must show a change, unless nothing is said to.</summary>
    public void Verify(PlanOptions? options = null, bool changes = true)
    {
        using var directory = new TemporaryDirectory();
        var plan = Plan(directory, options);
        Save(WritePlan(plan, TensorType.F32), directory["out"]);
        var checks = ModelVerifier.Verify(plan, plan.Tensors, directory["out"], new VerificationOptions(Full: true, Workers: 1), null,
            CancellationToken.None);
        Assert.Contains(checks, c => c is { Check: "Merged", Passed: true });
        Assert.Equal([], checks.Where(c => c.Passed == false || c.Check is "NotVerified" || (changes && c.Check is "Resolution"))
            .Select(c => $"{c.Check}: {c.Detail}"));
    }

    /// <summary>Merges, which must be refused with these words.</summary>
    public MergeException Refused(params string[] said) => Errors.Expect(() => Merge(), said);

    /// <summary>Writes a safetensors file.</summary>
    public static void WriteFile(string path, params TinyTensor[] tensors)
    {
        var layout = new ShardLayout(tensors.Select(t => new TensorSpec(t.Name, t.Type, t.Shape)),
            new Dictionary<string, string> { ["format"] = "pt" });
        using var stream = File.Create(path);
        stream.Write(layout.Header.ToArray());
        foreach (var tensor in layout.Tensors.Select(s => tensors.Single(t => t.Name == s.Name)))
        {
            stream.Write(tensor.Bytes);
        }
    }

    /// <summary>A model directory of one file.</summary>
    public static string Base(string directory, params TinyTensor[] tensors) => Base(directory, Plain, tensors);

    public static string Base(string directory, string config, params TinyTensor[] tensors) =>
        Write(directory, "config.json", config, "model.safetensors", tensors);

    /// <summary>An adapter directory; its tensors have their full names.</summary>
    public static string Adapter(string directory, string config, params TinyTensor[] tensors) =>
        Write(directory, AdapterDirectory.ConfigName, config, AdapterDirectory.WeightsName, tensors);

    /// <summary>A model with a <c>quantization_config</c>.</summary>
    public static TinyModel Quantized(string quantization, params TinyTensor[] tensors) => new(
        $$"""{"architectures": ["TinyForCausalLM"], "model_type": "tiny", "dtype": "bfloat16", "quantization_config": {{quantization}}}""",
        tensors);

    public static MergePlan Plan(string @base, params string[] adapters) =>
        MergePlanner.Plan(ModelDirectory.Open(@base), adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a), 1)));

    /// <summary>What is written; of all tensors by default.</summary>
    public static WritePlan WritePlan(MergePlan plan, TensorType? type = null, long? shard = UsualShard,
        OutputRequest? quantization = null, IEnumerable<LogicalTensor>? tensors = null) =>
        UnslothMerge.Planning.WritePlan.Create(plan, [.. tensors ?? plan.Tensors],
            new WriteOptions(type, shard == UsualShard && KeepsShards ? null : shard) { Quantization = quantization });

    /// <summary>Saves a plan as if it was flushed, with as much memory as it likes.</summary>
    public static IReadOnlyList<SavedShard> Save(WritePlan plan, string output, int workers = 2,
        IProgress<MergeProgress>? progress = null, CancellationToken? stop = null, DeviceRun? device = null, long memory = long.MaxValue)
    {
        var destination = Destination.Check(output, [("base", plan.Merge.Base.Path)], force: false);
        var run = new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(memory), workers, device?.Need), Sync: true)
        {
            Device = device,
            Disk = new Saving.Crashes.QuickDisk { AllowsDirectWrites = true },
        };
        var extras = ModelExtras.For(plan, destination, "merged_16bit", new ExtrasOptions());
        return ModelSaver.Save(extras, destination, run, progress, stop ?? CancellationToken.None);
    }

    /// <summary>Saves a plan on a disk, flushed if nothing else is said, with or without force.</summary>
    public static IReadOnlyList<SavedShard> SaveOn(IDisk disk, WritePlan plan, string output, bool force = false, bool restart = false,
        Action<string>? note = null, int workers = 1, CancellationToken? stop = null, bool verify = false,
        bool sync = true)
    {
        var destination = Destination.Check(output, [("base", plan.Merge.Base.Path)], force);
        var run = new RunOptions(ExecutionPlan.For(plan, new MemoryLimit(long.MaxValue), workers), sync)
        {
            Disk = disk,
            Restart = restart,
            Verify = verify,
            Note = w => note?.Invoke(w.Text),
        };
        var extras = ModelExtras.For(plan, destination, "merged_16bit", new ExtrasOptions());
        return ModelSaver.Save(extras, destination, run, null, stop ?? CancellationToken.None);
    }

    /// <summary>Saves a plan's one adapter by itself.</summary>
    public static void SaveAdapter(MergePlan plan, string output)
    {
        var destination = Destination.Check(output, [("base", plan.Base.Path)], force: false);
        AdapterSaver.Save(plan, ModelExtras.ForAdapter(plan, destination, new ExtrasOptions()), destination, sync: false);
    }

    /// <summary>Saves a merge in a format; every tensor is computed, as if something had changed it, if that is said.</summary>
    public static IReadOnlyList<TensorResult> Requantize(MergePlan plan, string output, OutputRequest request, bool computed = false)
    {
        var tensors = plan.Tensors.Select(t => computed && t.Source.Verbatim is null ? t with { Action = TensorAction.Merge } : t);
        return [.. Save(WritePlan(plan, quantization: request, tensors: tensors), output).SelectMany(s => s.Tensors)];
    }

    /// <summary>The stored bytes of every tensor, by name.</summary>
    public static SortedDictionary<string, string> Stored(string directory)
    {
        using var files = new InputFiles();
        return new(Checkpoint.Open(directory).Tensors.ToDictionary(t => t.Name,
            t => $"{t.Type} {t.Shape.Text()} {Convert.ToHexString(files.ReadAll(t))}"), StringComparer.Ordinal);
    }

    /// <summary>The values of every floating-point tensor, by name, as the engine decodes them.</summary>
    public static SortedDictionary<string, float[]> Values(string directory)
    {
        using var files = new InputFiles();
        return new(StoredFormats.Read(ModelDirectory.Open(directory)).ToDictionary(t => t.Name, t => Decode(t.Source, files)),
            StringComparer.Ordinal);
    }

    /// <summary>Everything in a directory, but for some path: relative path and hash of each file, in order.</summary>
    public static string Fingerprint(string directory, string? but = null) =>
        string.Join('\n', Directory.EnumerateFiles(directory, "*", SearchOption.AllDirectories)
        .Where(f => but is null || !f.Contains(but, StringComparison.Ordinal))
        .Select(f => $"{Path.GetRelativePath(directory, f)} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(f)))}")
        .Order(StringComparer.Ordinal));

    private static string Write(string directory, string configName, string config, string weightsName, TinyTensor[] tensors)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, configName), config);
        WriteFile(Path.Combine(directory, weightsName), tensors);
        return directory;
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
