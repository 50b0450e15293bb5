namespace UnslothMerge.Tests.Goldens;

/// <summary>Merges every golden case and compares with the float64 truth, or with what the real tools wrote; what must be refused,
/// is.</summary>
public sealed class GoldenTests : FileTests
{
    public static TheoryData<string> Cases => [.. GoldenCase.All];

    [Theory, MemberData(nameof(Cases))]
    public void Case(string name)
    {
        var @case = new GoldenCase(name);
        var output = Temp["out"];
        if (@case.Outcome == "error")
        {
            var error = Assert.ThrowsAny<MergeException>(() => GoldenMerge.Save(@case, output));
            Assert.All(@case.Names("names"), part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
            Assert.Empty(Directory.EnumerateFileSystemEntries(Temp.Path));
            return;
        }

        GoldenMerge.Save(@case, output);
        Compare(@case, output);
    }

    private static void Compare(GoldenCase @case, string output)
    {
        switch (@case.Outcome)
        {
            case "merged":
                CompareModel(@case, output);
                break;
            case "quantized":
                CompareQuantized(@case, output);
                break;
            case "adapter":
                CompareAdapter(@case, output);
                break;
            default:
                Assert.Fail($"The outcome {@case.Outcome} is not known.");
                break;
        }
    }

    private static void CompareModel(GoldenCase @case, string output)
    {
        using var files = new InputFiles();
        var actual = Checkpoint.Open(output);
        var truth = SafetensorsFile.Open(Path.Combine(@case.Folder, "truth.safetensors"));
        var @base = ModelDirectory.Open(@case.Base).Checkpoint;
        var changed = @case.Names("changed").ToHashSet();
        var same = @case.Names("same");

        PassRule.Check(@case, output);
        Assert.All(same, name => Assert.Equal(files.ReadAll(@base.Find(name)!), files.ReadAll(actual.Find(name)!)));
        Assert.All(@case.Names("absent"), name => Assert.Null(actual.Find(name)));
        var unchanged = truth.Tensors.Where(t => @case.Expect.TryGetProperty("changed", out _) && !changed.Contains(t.Name));
        Assert.All(unchanged, t => Assert.Equal(files.ReadAll(@base.Find(t.Name)!), files.ReadAll(actual.Find(t.Name)!)));
        CompareConfig(@case, output);
    }

    // Within the tolerances that the case states: codes and absmax may differ where a merged value lies at a rounding tie.
    private static void CompareQuantized(GoldenCase @case, string output)
    {
        using var files = new InputFiles();
        var expected = SafetensorsFile.Open(Path.Combine(@case.Folder, @case.Expect.GetProperty("path").GetString()!, "model.safetensors"));
        var actual = Checkpoint.Open(output);
        Assert.Equal(expected.Tensors.Select(t => t.Name).Order(StringComparer.Ordinal),
            actual.Tensors.Select(t => t.Name).Order(StringComparer.Ordinal));
        foreach (var tensor in expected.Tensors)
        {
            var mine = actual.Find(tensor.Name)!;
            var (e, a) = (files.ReadAll(tensor), files.ReadAll(mine));
            Assert.Equal(tensor.Type, mine.Type);
            var suffix = tensor.Name[(tensor.Name.LastIndexOf(".weight", StringComparison.Ordinal) + ".weight".Length)..];
            switch (suffix)
            {
                case ".quant_map" or ".nested_quant_map":
                    Assert.Equal(e, a);
                    break;
                case ".nested_absmax":
                    Assert.All(PassRule.Decode(TensorType.F32, e).Zip(PassRule.Decode(TensorType.F32, a)),
                        p => Assert.Equal(p.First, p.Second, Math.Abs(p.First) * 1e-4));
                    break;
                case ".absmax" when tensor.Type == TensorType.U8:
                    Assert.True(e.Zip(a).Count(p => p.First != p.Second) <= Math.Max(3, e.Length / 50), tensor.Name);
                    break;
                case ".absmax":
                    var blocks = PassRule.Decode(TensorType.F32, e).Zip(PassRule.Decode(TensorType.F32, a)).ToList();
                    Assert.True(blocks.Count(p => p.First != p.Second) <= Math.Max(1, blocks.Count / 200), tensor.Name);
                    Assert.All(blocks, p => Assert.Equal(p.First, p.Second, Math.Abs(p.First) / 128));
                    break;
                case var state when state.StartsWith(".quant_state", StringComparison.Ordinal):
                    var (se, sa) = (JsonNode.Parse(e)!.AsObject(), JsonNode.Parse(a)!.AsObject());
                    Assert.Equal(se.Select(p => p.Key), sa.Select(p => p.Key));
                    Assert.All(se,
                        p =>
                        Assert.True(p.Key == "nested_offset"
                            ? Math.Abs((double)p.Value! - (double)sa[p.Key]!) <= Math.Abs(1e-5 * (double)p.Value!)
                            : p.Value!.ToJsonString() == sa[p.Key]!.ToJsonString(), $"{tensor.Name}: {p.Key}"));
                    break;
                default:
                    Assert.Equal(tensor.Shape, mine.Shape);
                    CompareValues(tensor, e, a);
                    break;
            }
        }

        CompareConfig(@case, output);
    }

    private static void CompareValues(StoredTensor tensor, byte[] expected, byte[] actual)
    {
        if (tensor.Type != TensorType.U8)
        {
            Assert.True(expected.Zip(actual).Count(p => p.First != p.Second) <= Math.Max(1, tensor.Shape.Count() / 1000), tensor.Name);
            return;
        }

        var codes = expected.Zip(actual).SelectMany(p => new[] { (p.First >> 4, p.Second >> 4), (p.First & 15, p.Second & 15) }).ToList();
        Assert.True(codes.Count(c => c.Item1 != c.Item2) <= Math.Max(4, codes.Count / 500), tensor.Name);
        Assert.All(codes, c => Assert.InRange(c.Item1 - c.Item2, -1, 1));
    }

    private static void CompareConfig(GoldenCase @case, string output)
    {
        var before = ModelDirectory.Open(@case.Base).Config.ToJson();
        var after = JsonNode.Parse(File.ReadAllText(Path.Combine(output, "config.json")))!.AsObject();
        var absent = @case.Names("config_absent");
        Assert.All(absent, key => Assert.False(after.ContainsKey(key), $"config.json still has {key}"));
        var expected = @case.Expect.TryGetProperty("config", out var config) ? JsonNode.Parse(config.GetRawText())!.AsObject() : [];
        foreach (var (key, value) in expected)
        {
            Assert.True(
                JsonNode.DeepEquals(value, At(after, key)),
                $"config.json: {key} is {At(after, key)?.ToJsonString()} instead of {value?.ToJsonString()}");
        }

        // Untouched keys stay as they were, to the digit.
        foreach (var (key, value) in before.Where(p =>
            !absent.Contains(p.Key) && !expected.Any(e => e.Key.Split('.')[0] == p.Key)
            && p.Key is not ("dtype" or "torch_dtype" or "quantization_config")))
        {
            (value as JsonObject)?.Remove("quantization_config");
            Assert.Equal(value?.ToJsonString(), after[key]?.ToJsonString());
        }
    }

    // A dot leads into a nested config.
    private static JsonNode? At(JsonObject config, string key) => key.Split('.').Aggregate((JsonNode?)config, (node, part) => node?[part]);

    private static void CompareAdapter(GoldenCase @case, string output)
    {
        Assert.All(@case.Names("files"), file => Assert.True(File.Exists(Path.Combine(output, file)), $"{file} is missing"));
        Assert.All(@case.Names("absent"), file => Assert.False(File.Exists(Path.Combine(output, file)), $"{file} is there"));
        using var files = new InputFiles();
        var expected = SafetensorsFile.Open(Path.Combine(@case.Adapters[0].Path, AdapterDirectory.WeightsName));
        var actual = SafetensorsFile.Open(Path.Combine(output, AdapterDirectory.WeightsName));
        Assert.Equal(expected.Tensors.Select(t => (t.Name, t.Type)), actual.Tensors.Select(t => (t.Name, t.Type)));
        Assert.All(expected.Tensors.Zip(actual.Tensors), pair => Assert.Equal(files.ReadAll(pair.First), files.ReadAll(pair.Second)));
        var configs = new[] { @case.Adapters[0].Path,
            output }.Select(d => JsonNode.Parse(File.ReadAllText(Path.Combine(d, AdapterDirectory.ConfigName)))).ToList();
        Assert.True(JsonNode.DeepEquals(configs[0], configs[1]));
    }
}
