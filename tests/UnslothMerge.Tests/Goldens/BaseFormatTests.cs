namespace UnslothMerge.Tests.Goldens;

/// <summary>The goldens of quantized bases, written back in the base's format: the same tensors, the same config, and the truth but for
/// what quantizing costs.</summary>
public sealed class BaseFormatTests : FileTests
{
    public static TheoryData<string> Cases =>
        [.. GoldenCase.All.Where(c =>
            new GoldenCase(c) is { Outcome: "merged", Options.Count: 0 } @case && (c.StartsWith("q-", StringComparison.Ordinal)
                || (c.StartsWith("ba-", StringComparison.Ordinal) && ModelDirectory.Open(@case.Base).Config.Quantization is not null)))];

    [Theory, MemberData(nameof(Cases))]
    public void A_merge_comes_back_in_the_format_that_it_came_in(string name)
    {
        var @case = new GoldenCase(name);
        using var files = new InputFiles();
        var results = TinyModel.Requantize(TinyModel.Plan(@case.Base, [.. @case.Adapters.Select(a => a.Path)]), Temp["out"],
            new BaseFormatRequest());

        var (before, after) = (TinyModel.Stored(@case.Base), TinyModel.Stored(Temp["out"]));
        Assert.Equal(before.Keys, after.Keys);
        Assert.True(JsonNode.DeepEquals(ModelDirectory.Open(@case.Base).Config.Quantization,
            ModelDirectory.Open(Temp["out"]).Config.Quantization));
        var untouched = results.Where(r => !r.Tensor.IsChanged).SelectMany(r => r.Tensor.Source.Inputs).Select(t => t.Name);
        Assert.All(untouched, n => Assert.Equal(before[n], after[n]));
        Assert.All(results, r => Assert.Equal(r.Tensor.IsChanged && r.Written.Sink.IsQuantized, r.Figures.RelativeError is not null));

        var actual = TinyModel.Values(Temp["out"]);
        foreach (var truth in SafetensorsFile.Open(Path.Combine(@case.Folder, "truth.safetensors")).Tensors)
        {
            var result = results.Single(r => r.Tensor.Name == truth.Name);
            var wanted = MemoryMarshal.Cast<byte, float>(files.ReadAll(truth)).ToArray();
            var error = Math.Sqrt(wanted.Zip(actual[truth.Name], (w, v) => Math.Pow(v - w, 2)).Sum() / wanted.Sum(w => Math.Pow(w, 2)));

            // What was rounded to 16 bits on the way there or back differs by that; AWQ's error is counted before columns are scaled.
            Assert.Equal(result.Figures.RelativeError ?? 0, error, result.Tensor.Source.Format == "INT4" ? 0.02 : 0.004);
            Assert.InRange(error, 0,
                result.Tensor.Source.Format switch { "FP8" => 0.04, "INT8" or "GPTQ" when error < 0.02 => 0.02, _ => 0.2 });
        }
    }

    /// <summary>Encoding what was decoded gives the same codes.</summary>
    [Theory, MemberData(nameof(Cases))]
    public void Computed_values_get_the_codes_that_they_came_from(string name)
    {
        var @base = new GoldenCase(name).Base;
        TinyModel.Requantize(TinyModel.Plan(@base), Temp["out"], new BaseFormatRequest(), computed: true);
        var (before, after) = (TinyModel.Stored(@base), TinyModel.Stored(Temp["out"]));
        Assert.Equal(before.Keys, after.Keys);
        Assert.Equal([], before.Where(t => after[t.Key] != t.Value && name.StartsWith("ba-", StringComparison.Ordinal)).Select(t => t.Key));
    }

    [Theory, MemberData(nameof(Cases))]
    public void A_conversion_to_the_same_format_is_a_copy(string name)
    {
        var @base = new GoldenCase(name).Base;
        TinyModel.Requantize(TinyModel.Plan(@base), Temp["out"], new BaseFormatRequest());
        Assert.Equal(TinyModel.Stored(@base), TinyModel.Stored(Temp["out"]));
    }
}
