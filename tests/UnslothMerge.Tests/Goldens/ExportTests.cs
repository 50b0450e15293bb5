using UnslothMerge.Tests.Verification;

namespace UnslothMerge.Tests.Goldens;

/// <summary>What llm-compressor writes, case by case: the same tensors, config, codes and scales, also of what is merged.</summary>
public sealed class ExportTests : FileTests
{
    public static TheoryData<string> Cases => [.. ExportCase.All];

    [Theory, MemberData(nameof(Cases))]
    public void Case(string name)
    {
        var @case = new ExportCase(name);
        var output = Temp["out"];
        if (@case.Outcome == "error")
        {
            var error = Assert.ThrowsAny<MergeException>(() => @case.Save(output));
            Assert.All(@case.Names("names"), part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
            Assert.Empty(Directory.EnumerateFileSystemEntries(Temp.Path));
            return;
        }

        var plan = @case.Save(output);
        Compare(@case, output);
        Assert.All(Verify(plan, output), r => Assert.True(r.Passed, $"{r.Check}: {r.Detail}"));
    }

    /// <summary>A byte that is another in a scale, a zero point or a code is found.</summary>
    [Theory]
    [InlineData("merge-llama-fp8-block", "model.layers.0.self_attn.q_proj.weight_scale", 1)]
    [InlineData("merge-llama-fp8-block", "model.layers.0.self_attn.q_proj.weight", 300)]
    [InlineData("convert-llama-int8", "model.layers.0.mlp.down_proj.weight", 7)]
    [InlineData("merge-llama-head-w4a16-asym", "model.layers.0.self_attn.o_proj.weight_zero_point", 5)]
    [InlineData("convert-llama-f16-w4a16", "model.layers.0.self_attn.q_proj.weight_packed", 40)]
    [InlineData("convert-llama-nvfp4a16", "model.layers.0.self_attn.q_proj.weight_scale", 9)]
    [InlineData("merge-deepseek3-nvfp4a16", "model.layers.0.mlp.experts.1.up_proj.weight_global_scale", 2)]
    [InlineData("merge-qwen3-moe-fused-nvfp4a16", "model.layers.0.mlp.experts.1.up_proj.weight_packed", 99)]
    [InlineData("convert-llama-mxfp8", "model.layers.0.self_attn.v_proj.weight_scale", 3)]
    public void Damage_is_found(string name, string tensor, int place)
    {
        var plan = new ExportCase(name).Save(Temp["out"]);
        Damage.Flip(Temp["out"], tensor, place);
        Assert.Contains(Verify(plan, Temp["out"]), r => r.Passed == false);
    }

    private static IReadOnlyList<VerificationResult> Verify(MergePlan plan, string output) => ModelVerifier.Verify(
        plan, plan.Tensors, output, new VerificationOptions(Full: true, Workers: 2), null, TestContext.Current.CancellationToken);

    private static void Compare(ExportCase @case, string output)
    {
        using var files = new InputFiles();
        var expected = Checkpoint.Open(Path.Combine(@case.Folder, "expected")).Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var actual = Checkpoint.Open(output).Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        Assert.Equal(expected.Keys.Order(StringComparer.Ordinal), actual.Keys.Order(StringComparer.Ordinal));
        Assert.All(expected.Values, e => Assert.Equal((e.Type, e.Shape.Text()), (actual[e.Name].Type, actual[e.Name].Shape.Text())));

        CompareConfig(@case, output, expected.Keys);
        var (mine, theirs) = (Bytes(actual.Values, files), Bytes(expected.Values, files));
        foreach (var (name, bytes) in mine.Where(t => !t.Value.AsSpan().SequenceEqual(theirs[t.Key])))
        {
            // The largest of merged values may differ in its last bit, and a few that stay in 16 bits where they lie at a tie.
            if (name.EndsWith("global_scale", StringComparison.Ordinal))
            {
                var (a, e) = (MemoryMarshal.Read<float>(bytes), MemoryMarshal.Read<float>(theirs[name]));
                Assert.Equal(e, a, Math.Abs(e) * 3e-6);
            }
            else
            {
                Assert.False(mine.ContainsKey($"{name}_scale"), $"{name} has other codes");
                Assert.InRange(bytes.Zip(theirs[name]).Count(p => p.First != p.Second), 0, bytes.Length / 2000);
            }
        }

        // Scales that are shared there are shared here.
        foreach (var set in theirs.Where(t => t.Key.EndsWith("global_scale", StringComparison.Ordinal))
            .GroupBy(t => MemoryMarshal.Read<float>(t.Value)))
        {
            Assert.Single(set.Select(t => MemoryMarshal.Read<float>(mine[t.Key])).Distinct());
        }
    }

    private static void CompareConfig(ExportCase @case, string output, IEnumerable<string> names)
    {
        var actual = (JsonObject)JsonNode.Parse(File.ReadAllText(Path.Combine(output, "config.json")))!["quantization_config"]!;
        var expected = (JsonObject)JsonNode.Parse(@case.Expect.GetProperty("config").GetProperty("quantization_config").GetRawText())!;
        var ignore = actual["ignore"]!.AsArray().Select(i => (string)i!).ToList();
        Assert.All(@case.Names("kept"), m => Assert.Contains(ignore, i => Matches(i, m)));
        Assert.All(
            names.Where(n => n.EndsWith(".weight_scale", StringComparison.Ordinal)).Select(n => n[..^".weight_scale".Length]),
            m => Assert.DoesNotContain(ignore, i => Matches(i, m)));
        Assert.Equal(Without(expected).ToJsonString(), Without(actual).ToJsonString());

        static bool Matches(string entry, string module) => entry.StartsWith("re:", StringComparison.Ordinal)
            ? Regex.IsMatch(module, $"^(?:{entry[3..]})") : entry == module;

        static JsonObject Without(JsonObject config)
        {
            var copy = (JsonObject)config.DeepClone();
            copy.Remove("ignore");
            copy.Remove("version");
            copy["config_groups"] = new JsonArray([.. copy["config_groups"]!.AsObject().Select(g => g.Value!.DeepClone())]);
            return new JsonObject(
                copy.OrderBy(p => p.Key, StringComparer.Ordinal).Select(p => KeyValuePair.Create(p.Key, p.Value?.DeepClone())));
        }
    }

    private static SortedDictionary<string, byte[]> Bytes(IEnumerable<StoredTensor> tensors, InputFiles files) =>
        new(tensors.ToDictionary(t => t.Name, files.ReadAll), StringComparer.Ordinal);
}
