namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>A tensor of a test: F32, or I64 where the values are indices.</summary>
internal sealed record Values(long[] Shape, double[] Numbers, bool AreIndices = false)
{
    public static Values Random(Random random, double scale, params long[] shape) =>
        new(shape, [.. Enumerable.Range(0, (int)shape.Count()).Select(_ => (double)(float)(scale * ((2 * random.NextDouble()) - 1)))]);

    public double this[int row, int column] => Numbers[(row * (int)Shape[^1]) + column];
}

/// <summary>Merges adapters that a test makes up into a base that it makes up, and gives the result in F32.</summary>
internal sealed class Scenario(Dictionary<string, Values> @base)
{
    private readonly List<(JsonObject Config, Dictionary<string, Values> Tensors, double Weight)> _adapters = [];

    public Scenario With(JsonObject config, Dictionary<string, Values> tensors, double weight = 1)
    {
        _adapters.Add((config, tensors, weight));
        return this;
    }

    public Dictionary<string, Values> Merge()
    {
        using var directory = new TemporaryDirectory();
        Write(directory["base"], "model.safetensors", @base);
        File.WriteAllText(Path.Combine(directory["base"], "config.json"), """{"architectures":["Model"],"model_type":"custom"}""");
        var steps = new List<AdapterStep>();
        foreach (var (config, tensors, weight) in _adapters)
        {
            var path = directory[$"adapter{steps.Count}"];
            Write(path, AdapterDirectory.WeightsName, tensors);
            File.WriteAllText(Path.Combine(path, AdapterDirectory.ConfigName), config.ToJsonString());
            steps.Add(new AdapterStep(AdapterDirectory.Open(path), weight));
        }

        var plan = MergePlanner.Plan(ModelDirectory.Open(directory["base"]), steps);
        var write = WritePlan.Create(plan, plan.Tensors, new WriteOptions(TensorType.F32, 5_000_000_000));
        ModelSaver.Save(Destination.Check(directory["out"], [], force: false), "merged_16bit", Runs.Of(write), null,
            TestContext.Current.CancellationToken);

        using var files = new InputFiles();
        return Checkpoint.Open(directory["out"]).Tensors.ToDictionary(
            t => t.Name,
            t => new Values([.. t.Shape], Array.ConvertAll(files.ReadAll<float>(t), v => (double)v)));
    }

    /// <summary>The goldens' rule for F32, from a truth in double.</summary>
    public static void Equal(double[] expected, Values actual)
    {
        Assert.Equal(expected.Length, actual.Numbers.Length);
        var bound = 2e-6 * expected.Max(Math.Abs);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.InRange(actual.Numbers[i], expected[i] - bound - (Math.Abs(expected[i]) * 1e-7),
                expected[i] + bound + (Math.Abs(expected[i]) * 1e-7));
        }
    }

    private static void Write(string directory, string name, Dictionary<string, Values> tensors)
    {
        Directory.CreateDirectory(directory);
        TinyModel.WriteFile(Path.Combine(directory, name), [.. tensors.Select(t => ToFile(t.Key, t.Value))]);
    }

    private static TinyTensor ToFile(string name, Values values) => values.AreIndices
        ? new(name, TensorType.I64, values.Shape, MemoryMarshal.AsBytes<long>(Array.ConvertAll(values.Numbers, v => (long)v)).ToArray())
        : TinyTensor.F32(name, values.Shape, values.Numbers);
}
