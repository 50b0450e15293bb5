using UnslothMerge.Tests.Verification;

namespace UnslothMerge.Tests.Goldens;

/// <summary>What llm-compressor writes, case by case: the same tensors and config, codes of what is not merged to the byte, and codes of
/// what is merged as near as fp32 arithmetic comes to the exact values.</summary>
public sealed partial class ExportTests : FileTests
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
        Compare(@case, plan, output);
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

    private static void Compare(ExportCase @case, MergePlan plan, string output)
    {
        using var files = new InputFiles();
        var expected = Checkpoint.Open(Path.Combine(@case.Folder, "expected")).Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        var actual = Checkpoint.Open(output).Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        Assert.Equal(expected.Keys.Order(StringComparer.Ordinal), actual.Keys.Order(StringComparer.Ordinal));
        Assert.All(expected.Values, e => Assert.Equal((e.Type, e.Shape.Text()), (actual[e.Name].Type, actual[e.Name].Shape.Text())));

        var quantization = CompareConfig(@case, output, expected.Keys);
        var values = new ExportValues(@case, plan, files);
        var half = plan.Config.DType!.Value;
        var (mine, theirs) = (Bytes(actual.Values, files), Bytes(expected.Values, files));
        foreach (var (name, bytes) in mine.Where(t => !t.Value.AsSpan().SequenceEqual(theirs[t.Key])))
        {
            if (CodesPattern().Match(name) is { Success: true } match && mine.ContainsKey($"{match.Groups["module"].Value}.weight_scale"))
            {
                var module = match.Groups["module"].Value;
                var (exact, columns, delta, isUntouched) = values.Of($"{module}.weight");
                Assert.False(name.EndsWith("scale", StringComparison.Ordinal) && isUntouched && delta == 0
                    && !values.HasMergedSibling(module), name);
                var stored = mine.Where(t => t.Key.StartsWith($"{module}.", StringComparison.Ordinal))
                    .ToDictionary(t => t.Key[(module.Length + 1)..], t => t.Value);
                new ExportRule(quantization, half).Check(module, stored, exact, columns, delta, isUntouched);
                if (name.EndsWith("global_scale", StringComparison.Ordinal))
                {
                    var (a, e) = (MemoryMarshal.Read<float>(bytes), MemoryMarshal.Read<float>(theirs[name]));
                    Assert.Equal(e, a, Math.Abs(e) * 3e-6);
                }
            }
            else
            {
                var (exact, _, delta, isUntouched) = values.Of(name);
                Assert.False(isUntouched, $"{name} differs from the base");
                var type = actual[name].Type;
                Assert.All(PassRule.Decode(type, bytes).Zip(exact), p =>
                    Assert.True(Math.Abs(p.First - p.Second) <= (0.5 * PlainValues.Ulp(type, p.Second)) + delta, name));
            }
        }

        // Scales that are shared there are shared here.
        foreach (var set in theirs.Where(t => t.Key.EndsWith("global_scale", StringComparison.Ordinal))
            .GroupBy(t => MemoryMarshal.Read<float>(t.Value)))
        {
            Assert.Single(set.Select(t => MemoryMarshal.Read<float>(mine[t.Key])).Distinct());
        }
    }

    private static JsonObject CompareConfig(ExportCase @case, string output, IEnumerable<string> names)
    {
        var actual = (JsonObject)JsonNode.Parse(File.ReadAllText(Path.Combine(output, "config.json")))!["quantization_config"]!;
        var expected = (JsonObject)JsonNode.Parse(@case.Expect.GetProperty("config").GetProperty("quantization_config").GetRawText())!;
        var ignore = actual["ignore"]!.AsArray().Select(i => (string)i!).ToList();
        Assert.All(@case.Names("kept"), m => Assert.Contains(ignore, i => Matches(i, m)));
        Assert.All(
            names.Where(n => n.EndsWith(".weight_scale", StringComparison.Ordinal)).Select(n => n[..^".weight_scale".Length]),
            m => Assert.DoesNotContain(ignore, i => Matches(i, m)));
        Assert.Equal(Without(expected).ToJsonString(), Without(actual).ToJsonString());
        return actual;

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

    [GeneratedRegex(@"^(?<module>.*)\.weight(_packed|_scale|_zero_point|_shape|_global_scale|)$", RegexOptions.ExplicitCapture)]
    private static partial Regex CodesPattern();
}
