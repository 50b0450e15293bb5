namespace UnslothMerge.Tests.Lora;

/// <summary>What adapters store beside deltas: copies of the base, whole modules, trained token rows.</summary>
public sealed class SavedTensorTests
{
    private const string Custom = """{ "model_type": "custom", "tie_word_embeddings": false }""";
    private readonly Random _random = new(11);

    [Fact]
    public void CopiesOfTheBaseDoNotForbidWeights()
    {
        var head = Numbers.Random(_random, 1, 9, 5);
        using var merge = new TinyMerge(Custom, ("lm_head.weight", head));
        var expected = head.Values;
        foreach (var weight in new[] { 0.5, -1.25 })
        {
            var (a, b) = (Numbers.Random(_random, 1, 2, 5), Numbers.Random(_random, 1, 9, 2));
            merge.With("""{ "r": 2 }""", weight, ("lm_head.base_layer.weight", head), ("lm_head.lora_A.weight", a),
                ("lm_head.lora_B.weight", b));
            expected = LoraLayerTests.Sum(head with { Values = expected }, b, a, weight / 2);
        }

        TinyMerge.Near(expected, merge.Merge()["lm_head.weight"]);
        Assert.Equal(2, merge.Plan!.Targets.Count(t => t.Outcome == AdapterOutcome.BaseCopy && t.Tensor == "lm_head.weight"));
    }

    [Fact]
    public void ATrainedBaseLayerReplacesAndTakesTheDelta()
    {
        var (head, trained) = (Numbers.Random(_random, 1, 9, 5), Numbers.Random(_random, 1, 11, 5));
        var (a, b) = (Numbers.Random(_random, 1, 2, 5), Numbers.Random(_random, 1, 11, 2));
        using var merge = new TinyMerge(Custom, ("lm_head.weight", head));
        merge.With("""{ "r": 2 }""", 1, ("lm_head.base_layer.weight", trained), ("lm_head.lora_A.weight", a), ("lm_head.lora_B.weight", b));
        TinyMerge.Near(LoraLayerTests.Sum(trained, b, a, 0.5), merge.Merge()["lm_head.weight"]);
    }

    [Fact]
    public void AWholeStateDictIsAnAdapterToo()
    {
        var (up, norm, score, trained) =
            (Numbers.Random(_random, 1, 4, 5), Numbers.Random(_random, 1, 5), Numbers.Random(_random, 1, 3, 5),
                Numbers.Random(_random, 1, 3, 5));
        var (a, b) = (Numbers.Random(_random, 1, 2, 5), Numbers.Random(_random, 1, 4, 2));
        using var merge = new TinyMerge(Custom, ("up.weight", up), ("norm.weight", norm), ("score.weight", score));
        merge.With(
            """{ "r": 2, "modules_to_save": ["score"] }""",
            1,
            ("up.base_layer.weight", up),
            ("up.lora_A.default.weight", a),
            ("up.lora_B.default.weight", b),
            ("norm.weight", norm),
            ("score.original_module.weight", score),
            ("score.modules_to_save.default.weight", trained));
        var merged = merge.Merge();
        TinyMerge.Near(LoraLayerTests.Sum(up, b, a, 0.5), merged["up.weight"]);
        Assert.Equal(trained.Values, merged["score.weight"]);
        Assert.Equal(norm.Values, merged["norm.weight"]);
    }

    [Fact]
    public void TokenRowsOfSeveralAdaptersMeetWhereTheyDiffer()
    {
        var embedding = Numbers.Random(_random, 1, 9, 5);
        var (first, second) = (Numbers.Random(_random, 1, 2, 5), Numbers.Random(_random, 1, 3, 5));
        using var merge = new TinyMerge(Custom, ("model.embed_tokens.weight", embedding));
        merge.With("""{ "trainable_token_indices": [7, 2] }""", 1,
            ("model.embed_tokens.token_adapter.trainable_tokens_delta.default", first))
            .With("""{ "peft_type": "TRAINABLE_TOKENS", "token_indices": [0, 8, 3] }""", 1,
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
    public void TokenRowsMustBeClear(string config, string why)
    {
        using var merge = new TinyMerge(Custom, ("model.embed_tokens.weight", Numbers.Random(_random, 1, 9, 5)));
        merge.With("""{ "trainable_token_indices": [4] }""", 1,
            ("model.embed_tokens.token_adapter.trainable_tokens_delta", Numbers.Random(_random, 1, 1, 5)))
            .With(config, 1, ("model.embed_tokens.token_adapter.trainable_tokens_delta", Numbers.Random(_random, 1, 2, 5)));
        Assert.Contains(why, merge.Fail().Message, StringComparison.Ordinal);
    }
}
