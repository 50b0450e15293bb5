namespace UnslothMerge.Tests.Lora;

/// <summary>An array of numbers that are fp32 values, with its shape.</summary>
internal sealed record Numbers(long[] Shape, double[] Values)
{
    public double this[long row, long column] => Values[(row * (Values.Length / Shape[0])) + column];

    /// <summary>Random fp32 values of about this size.</summary>
    public static Numbers Random(Random random, double size, params long[] shape) =>
        new(shape, [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => (double)(float)(size * ((2 * random.NextDouble()) - 1)))]);
}

/// <summary>A model and its adapters, written to a temporary directory, merged and saved as F32.</summary>
internal sealed class TinyMerge : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly List<AdapterStep> _steps = [];

    public TinyMerge(string config, params (string Name, Numbers Numbers)[] tensors)
    {
        Directory.CreateDirectory(_directory["base"]);
        File.WriteAllText(Path.Combine(_directory["base"], "config.json"), config);
        TinyModel.WriteFile(Path.Combine(_directory["base"], "model.safetensors"), [.. tensors.Select(t => ToFile(t.Name, t.Numbers))]);
    }

    public MergePlan? Plan { get; private set; }

    /// <summary>Adds an adapter with names as PEFT writes them but for <c>base_model.model.</c></summary>
    public TinyMerge With(string config, double weight, params (string Name, Numbers Numbers)[] tensors)
    {
        var path = _directory[$"adapter{_steps.Count}"];
        Directory.CreateDirectory(path);
        var json = JsonNode.Parse(config)!.AsObject();
        json.TryAdd("peft_type", "LORA");
        json.TryAdd("lora_alpha", 1);
        File.WriteAllText(Path.Combine(path, AdapterDirectory.ConfigName), json.ToJsonString());
        TinyModel.WriteFile(Path.Combine(path, AdapterDirectory.WeightsName),
            [.. tensors.Select(t => ToFile("base_model.model." + t.Name, t.Numbers))]);
        _steps.Add(new AdapterStep(AdapterDirectory.Open(path), weight));
        return this;
    }

    /// <summary>The merged tensors.</summary>
    public Dictionary<string, double[]> Merge(PlanOptions? options = null)
    {
        Plan = MergePlanner.Plan(ModelDirectory.Open(_directory["base"]), _steps, options);
        var write = WritePlan.Create(Plan, Plan.Tensors, new WriteOptions(TensorType.F32, 5_000_000_000));
        ModelSaver.Save(Destination.Check(_directory["out"], [], force: false), "merged_16bit", Runs.Of(write), null,
            TestContext.Current.CancellationToken);
        using var files = new InputFiles();
        return Checkpoint.Open(_directory["out"]).Tensors.ToDictionary(t => t.Name,
            t => Array.ConvertAll(files.ReadAll<float>(t), v => (double)v));
    }

    /// <summary>The error of a merge that must fail.</summary>
    public MergeException Fail(PlanOptions? options = null) => Assert.Throws<MergeException>(() => Merge(options));

    public void Dispose() => _directory.Dispose();

    /// <summary>The rule of the goldens for F32.</summary>
    public static void Near(double[] expected, double[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        var slack = 2e-6 * expected.Max(Math.Abs);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.True(Math.Abs(actual[i] - expected[i]) <= slack + (Math.Abs(expected[i]) * 6e-8),
                $"[{i}]: {actual[i]} instead of {expected[i]}");
        }
    }

    private static TinyTensor ToFile(string name, Numbers numbers)
    {
        Assert.Equal(numbers.Shape.Count(), numbers.Values.Length);
        return TinyTensor.F32(name, numbers.Shape, numbers.Values);
    }
}
