namespace UnslothMerge.Tests.Adapters;

/// <summary>A tensor of random values, exact in fp32.</summary>
internal sealed record Values(double[] Data, params long[] Shape)
{
    public double this[params int[] at] => Data[at.Zip(Shape, (i, n) => (i, n)).Aggregate(0L, (flat, d) => (flat * d.n) + d.i)];

    public static Values Random(Random random, params long[] shape) => Make(shape, _ => (float)((random.NextDouble() * 2) - 1));

    public static Values Make(long[] shape, Func<int, double> value) =>
        new([.. Enumerable.Range(0, (int)shape.Count()).Select(value)], shape);
}

/// <summary>Merges one adapter into a model of one module, <c>layer</c>, through files, in fp32.</summary>
internal sealed class TinyMerge : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly List<TinyTensor> _adapter = [];
    private readonly JsonObject _config;
    private readonly Dictionary<string, Values> _base = [];

    public TinyMerge(string peftType, string config, Values weight, Values? bias = null)
    {
        _config = JsonNode.Parse(config)!.AsObject();
        _config["peft_type"] = peftType;
        _base["layer.weight"] = weight;
        if (bias is not null)
        {
            _base["layer.bias"] = bias;
        }
    }

    public TinyMerge With(string name, Values values)
    {
        _adapter.Add(TinyTensor.F32("base_model." + name, values.Shape, values.Data));
        return this;
    }

    public TinyMerge Part(string part, Values values) => With("model.layer." + part, values);

    public TinyMerge Indices(string part, int[] values, params long[] shape)
    {
        _adapter.Add(new TinyTensor("base_model.model.layer." + part, TensorType.I32, shape, MemoryMarshal.AsBytes<int>(values).ToArray()));
        return this;
    }

    public TinyMerge Bytes(string part, byte[] values, params long[] shape)
    {
        _adapter.Add(new TinyTensor("base_model.model.layer." + part, TensorType.U8, shape, values));
        return this;
    }

    public TinyMerge Base(string name, Values values)
    {
        _base[name] = values;
        return this;
    }

    /// <summary>The merged tensor.</summary>
    public double[] Merge(string name = "layer.weight")
    {
        Directory.CreateDirectory(_directory["base"]);
        Directory.CreateDirectory(_directory["adapter"]);
        TinyModel.WriteFile(Path.Combine(_directory["base"], "model.safetensors"),
            [.. _base.Select(t => TinyTensor.F32(t.Key, t.Value.Shape, t.Value.Data))]);
        File.WriteAllText(Path.Combine(_directory["base"], "config.json"), """{"architectures":["Tiny"],"model_type":"custom"}""");
        TinyModel.WriteFile(Path.Combine(_directory["adapter"], AdapterDirectory.WeightsName), [.. _adapter]);
        File.WriteAllText(Path.Combine(_directory["adapter"], AdapterDirectory.ConfigName), _config.ToJsonString());
        var plan = MergePlanner.Plan(ModelDirectory.Open(_directory["base"]),
            [new AdapterStep(AdapterDirectory.Open(_directory["adapter"]), 1)]);
        var destination = Destination.Check(_directory["out"], [], force: true);
        var write = WritePlan.Create(plan, plan.Tensors, new WriteOptions(TensorType.F32, 5_000_000_000));
        ModelSaver.Save(destination, "merged_16bit", Runs.Of(write), null, TestContext.Current.CancellationToken);
        using var files = new InputFiles();
        return Array.ConvertAll(files.ReadAll<float>(Checkpoint.Open(_directory["out"]).Find(name)!), v => (double)v);
    }

    /// <summary>Merges, and compares with the weight plus a delta [out, in].</summary>
    /// <param name="delta">The delta's value at an output and an input (times the kernel).</param>
    /// <param name="transposed">True if the weight is stored as [in, out].</param>
    public void Expect(Func<int, int, double> delta, bool transposed = false)
    {
        var weight = _base["layer.weight"];
        var (rows, columns) = ((int)weight.Shape[0], (int)(weight.Shape.Count() / weight.Shape[0]));
        var expected = new double[rows * columns];
        for (var i = 0; i < rows; i++)
        {
            for (var j = 0; j < columns; j++)
            {
                expected[(i * columns) + j] = weight.Data[(i * columns) + j] + (transposed ? delta(j, i) : delta(i, j));
            }
        }

        var slack = 1e-6 * expected.Max(Math.Abs);
        var actual = Merge();
        Assert.All(actual.Index(), v => Assert.Equal(expected[v.Index], v.Item, slack));
        Assert.Contains(actual.Index(), v => v.Item != weight.Data[v.Index]);
    }

    public void Dispose() => _directory.Dispose();
}
