namespace UnslothMerge.Tests.Lora;

/// <summary>What adapters store beside deltas: copies of the base, whole modules, trained token rows.</summary>
public sealed class SavedTensorTests
{
    private const string Custom = """{ "model_type": "custom", "tie_word_embeddings": false }""";
    private readonly Random _random = new(11);

    [Fact]
    public void CopiesOfTheBaseDoNotForbidWeights()
    {
        var head = _random.Numbers(9, 5);
        var merge = new TinyModel(Custom, ("lm_head.weight", head));
        var expected = head.Values;
        foreach (var weight in new[] { 0.5, -1.25 })
        {
            var (a, b) = (_random.Numbers(2, 5), _random.Numbers(9, 2));
            merge.With("""{ "r": 2 }""", weight, [("lm_head.base_layer.weight", head), .. TinyTensor.Lora("lm_head", a, b)]);
            expected = LoraLayerTests.Sum(head with { Values = expected }, b, a, weight / 2);
        }

        Numbers.Near(expected, merge.Merge()["lm_head.weight"]);
        Assert.Equal(2, merge.Planned!.Targets.Count(t => t.Outcome == AdapterOutcome.BaseCopy && t.Tensor == "lm_head.weight"));
    }

    [Fact]
    public void ATrainedBaseLayerReplacesAndTakesTheDelta()
    {
        var (head, trained) = (_random.Numbers(9, 5), _random.Numbers(11, 5));
        var (a, b) = (_random.Numbers(2, 5), _random.Numbers(11, 2));
        var merge = new TinyModel(Custom, ("lm_head.weight", head))
            .With("""{ "r": 2 }""", [("lm_head.base_layer.weight", trained), .. TinyTensor.Lora("lm_head", a, b)]);
        Numbers.Near(LoraLayerTests.Sum(trained, b, a, 0.5), merge.Merge()["lm_head.weight"]);
    }

    [Fact]
    public void AWholeStateDictIsAnAdapterToo()
    {
        var (up, norm, score, trained) = (_random.Numbers(4, 5), _random.Numbers(5), _random.Numbers(3, 5), _random.Numbers(3, 5));
        var (a, b) = (_random.Numbers(2, 5), _random.Numbers(4, 2));
        var merged = new TinyModel(Custom, ("up.weight", up), ("norm.weight", norm), ("score.weight", score)).With(
            """{ "r": 2, "modules_to_save": ["score"] }""",
            ("up.base_layer.weight", up), ("up.lora_A.default.weight", a), ("up.lora_B.default.weight", b), ("norm.weight", norm),
            ("score.original_module.weight", score), ("score.modules_to_save.default.weight", trained)).Merge();
        Numbers.Near(LoraLayerTests.Sum(up, b, a, 0.5), merged["up.weight"]);
        Assert.Equal(trained.Values, merged["score.weight"]);
        Assert.Equal(norm.Values, merged["norm.weight"]);
    }

    // As PEFT saves a resized embedding with modules_to_save.
    [Fact]
    public void OfThreeCopiesOfAModuleTheSavedOneCounts()
    {
        using var directory = new TemporaryDirectory();
        var (embedding, trained) = (_random.Numbers(9, 5), _random.Numbers(11, 5));
        const string name = "model.embed_tokens";
        var merge = new TinyModel(Custom, ($"{name}.weight", embedding)).With("""{ "modules_to_save": ["embed_tokens"] }""",
            ($"{name}.weight", _random.Numbers(11, 5)), ($"{name}.original_module.weight", embedding),
            ($"{name}.modules_to_save.weight", trained));
        Assert.Equal(trained.Values, merge.Merge()[$"{name}.weight"]);
        TinyModel.SaveAdapter(merge.Plan(directory), directory["out"]);
        var saved = Assert.Single(SafetensorsFile.Open(Path.Combine(directory["out"], AdapterDirectory.WeightsName)).Tensors);
        Assert.Equal($"base_model.model.{name}.weight", saved.Name);
        using var files = new InputFiles();
        Assert.Equal(trained.Values, files.ReadAll<float>(saved).Select(v => (double)v));
    }

    [Fact]
    public void TokenRowsOfSeveralAdaptersMeetWhereTheyDiffer()
    {
        var embedding = _random.Numbers(9, 5);
        var (first, second) = (_random.Numbers(2, 5), _random.Numbers(3, 5));
        var merge = new TinyModel(Custom, ("model.embed_tokens.weight", embedding))
            .With("""{ "trainable_token_indices": [7, 2] }""", ("model.embed_tokens.token_adapter.trainable_tokens_delta.default", first))
            .With("""{ "peft_type": "TRAINABLE_TOKENS", "token_indices": [0, 8, 3] }""",
                ("model.embed_tokens.trainable_tokens_delta", second));
        var expected = embedding.Values.Chunk(5).ToArray();
        (expected[7], expected[2]) = (first.Values[..5], first.Values[5..]);
        (expected[0], expected[8], expected[3]) = (second.Values[..5], second.Values[5..10], second.Values[10..]);
        Assert.Equal([.. expected.SelectMany(r => r)], merge.Merge()["model.embed_tokens.weight"]);
    }

    [Theory]
    [InlineData("""{ "trainable_token_indices": [7, 2, 1] }""", "has 2 rows")]
    [InlineData("""{ "trainable_token_indices": { "lm_head": [7, 2] } }""", "no token indices")]
    [InlineData("""{ "trainable_token_indices": [7, 9] }""", "from 0 to 8")]
    [InlineData("""{ "trainable_token_indices": [7, 7] }""", "different rows")]
    [InlineData("""{ "trainable_token_indices": { "embed_tokens": [7, 4] } }""", "can be combined")]
    public void TokenRowsMustBeClear(string config, string why) =>
        new TinyModel(Custom, ("model.embed_tokens.weight", _random.Numbers(9, 5)))
            .With("""{ "trainable_token_indices": [4] }""",
                ("model.embed_tokens.token_adapter.trainable_tokens_delta", _random.Numbers(1, 5)))
            .With(config, ("model.embed_tokens.token_adapter.trainable_tokens_delta", _random.Numbers(2, 5))).Refused(why);
}
