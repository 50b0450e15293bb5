namespace UnslothMerge.Tests.Planning;

/// <summary>What is said of adapters that are merged nevertheless.</summary>
public sealed class AdapterWarningsTests : FileTests
{
    [Theory]
    [InlineData("""{"r": 1, "alpha_pattern": {"a": 2, "b": 3, "c": 4}}""", "2 pattern keys of ", ": b, c.")]
    [InlineData("""{"r": 1, "use_new_trick": true, "use_dora": false}""", "1 option of ", ": use_new_trick.")]
    [InlineData("""{"r": 1, "init_lora_weights": "loftq"}""", "was started by LoftQ", "")]
    [InlineData("""{"r": 1, "nvfp4_merge_aware": true}""", "nvfp4_merge_aware", "")]
    public void Of_its_config(string config, string what, string which)
    {
        var warning = Assert.Single(Model(1).With(config, Lora(1)).Plan(Temp).Warnings).Text;
        Assert.Contains(what, warning, StringComparison.Ordinal);
        Assert.EndsWith(which, warning.Split(" Their")[0].Split(" If they")[0], StringComparison.Ordinal);
    }

    [Fact]
    public void Of_factors_that_change_nothing() => Assert.Contains("1 lora_B of ",
        Assert.Single(Model(1).With("""{"r": 1}""", Lora(0)).Plan(Temp).Warnings).Text, StringComparison.Ordinal);

    [Fact]
    public void An_ordinary_adapter_has_none() =>
        Assert.Empty(Model(1).With("""{"r": 1, "alpha_pattern": {"a": 2}, "inference_mode": true}""", Lora(1)).Plan(Temp).Warnings);

    [Theory]
    [InlineData("org/falcon-h1-bnb-4bit", 1)]
    [InlineData("org/falcon-h1", 0)]
    public void Of_a_falcon_h1_that_was_quantized(string named, int warnings) => Assert.Equal(warnings,
        new TinyModel("""{"model_type": "falcon_h1"}""", ("a.weight", Numbers.Of([1, 1], (int _) => 1)))
            .With($$"""{"r": 1, "base_model_name_or_path": "{{named}}"}""", Lora(1)).Plan(Temp).Warnings
            .Count(w => w.Text.Contains("dequantized base", StringComparison.Ordinal)));

    private static TinyModel Model(double value) => new(("a.weight", Numbers.Of([1, 1], (int _) => value)));

    private static TinyTensor[] Lora(double b) =>
        TinyTensor.Lora("a", Numbers.Of([1, 1], (int _) => 1), Numbers.Of([1, 1], (int _) => b));
}
