using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using UnslothMerge.Adapters;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Saving;

namespace UnslothMerge.Tests.Adapters;

/// <summary>A tensor of random values, exact in fp32.</summary>
internal sealed record Values(double[] Data, params long[] Shape)
{
    public double this[params int[] at] => Data[at.Zip(Shape, (i, n) => (i, n)).Aggregate(0L, (flat, d) => (flat * d.n) + d.i)];

    public static Values Random(Random random, params long[] shape) => Make(shape, _ => (float)((random.NextDouble() * 2) - 1));

    public static Values Make(long[] shape, Func<int, double> value) => new([.. Enumerable.Range(0, (int)shape.Count()).Select(value)], shape);
}

/// <summary>Merges one adapter into a model of one module, <c>layer</c>, through files, in fp32.</summary>
internal sealed class TinyMerge : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly Dictionary<string, (Array Data, long[] Shape, string Type)> _adapter = [];
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
        _adapter["base_model." + name] = (values.Data.Select(v => (float)v).ToArray(), values.Shape, "F32");
        return this;
    }

    public TinyMerge Part(string part, Values values) => With("model.layer." + part, values);

    public TinyMerge Indices(string part, int[] values, params long[] shape)
    {
        _adapter["base_model.model.layer." + part] = (values, shape, "I32");
        return this;
    }

    public TinyMerge Bytes(string part, byte[] values, params long[] shape)
    {
        _adapter["base_model.model.layer." + part] = (values, shape, "U8");
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
        Write(_directory["base"], "model.safetensors", _base.ToDictionary(t => t.Key, t => ((Array)t.Value.Data.Select(v => (float)v).ToArray(), t.Value.Shape, "F32")));
        File.WriteAllText(Path.Combine(_directory["base"], "config.json"), """{"architectures":["Tiny"],"model_type":"custom"}""");
        Write(_directory["adapter"], AdapterDirectory.WeightsName, _adapter);
        File.WriteAllText(Path.Combine(_directory["adapter"], AdapterDirectory.ConfigName), _config.ToJsonString());
        var plan = MergePlanner.Plan(ModelDirectory.Open(_directory["base"]), [new AdapterStep(AdapterDirectory.Open(_directory["adapter"]), 1)]);
        var destination = Destination.Check(_directory["out"], [], force: true);
        var write = WritePlan.Create(plan, plan.Tensors, new WriteOptions(TensorType.F32, 5_000_000_000));
        ModelSaver.Save(write, destination, "merged_16bit", Runs.Of(write), null, TestContext.Current.CancellationToken);
        using var files = new InputFiles();
        return [.. MemoryMarshal.Cast<byte, float>(files.ReadAll(Checkpoint.Open(_directory["out"]).Find(name)!)).ToArray().Select(v => (double)v)];
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

    private static void Write(string directory, string file, Dictionary<string, (Array Data, long[] Shape, string Type)> tensors)
    {
        Directory.CreateDirectory(directory);
        var header = new JsonObject();
        using var data = new MemoryStream();
        foreach (var (name, (values, shape, type)) in tensors)
        {
            var bytes = new byte[Buffer.ByteLength(values)];
            Buffer.BlockCopy(values, 0, bytes, 0, bytes.Length);
            header[name] = new JsonObject { ["dtype"] = type, ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]), ["data_offsets"] = new JsonArray(data.Length, data.Length + bytes.Length) };
            data.Write(bytes);
        }

        var text = Encoding.UTF8.GetBytes(header.ToJsonString());
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, text.Length);
        File.WriteAllBytes(Path.Combine(directory, file), [.. length, .. text, .. data.ToArray()]);
    }
}
