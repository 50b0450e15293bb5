namespace UnslothMerge.Tests.Lora;

/// <summary>Heads that share the embedding's weight, and heads that take the place of one.</summary>
public sealed class SharedHeadTests
{
    private const string Tied =
        """{ "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true, "num_hidden_layers": 1 }""";
    private const string Embedding = "model.embed_tokens.weight";
    private const string Head = "lm_head.weight";
    private readonly Random _random = new(29);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AHeadThatIsStoredThoughTiedIsUntiedByADelta(bool keepTied)
    {
        var shared = _random.Numbers(9, 5);
        var (a, b) = (_random.Numbers(2, 5), _random.Numbers(9, 2));
        var merge = new TinyModel(Tied, (Embedding, shared), (Head, shared)).With("""{ "r": 2 }""", TinyTensor.Lora("lm_head", a, b));
        var merged = merge.Merge(new PlanOptions { KeepTied = keepTied });
        var expected = LoraLayerTests.Sum(shared, b, a, 0.5);
        Numbers.Near(expected, merged[Head]);
        Numbers.Near(keepTied ? expected : shared.Values, merged[Embedding]);
        Assert.Equal(keepTied, merge.Planned!.Config.TiesWordEmbeddings);
    }

    [Theory]
    [InlineData("bart", "BartForConditionalGeneration", "model.")]
    [InlineData("t5", "T5ForConditionalGeneration", "")]
    public void AnUntiedHeadLeavesEachEmbeddingATensorOfItsOwn(string type, string @class, string prefix)
    {
        var shared = _random.Numbers(9, 5);
        var (a, b) = (_random.Numbers(2, 5), _random.Numbers(9, 2));
        var config = $$"""{ "model_type": "{{type}}", "architectures": ["{{@class}}"], "tie_word_embeddings": true }""";
        var merge = new TinyModel(config, ($"{prefix}shared.weight", shared)).With("""{ "r": 2 }""", TinyTensor.Lora("lm_head", a, b));
        var merged = merge.Merge();
        Numbers.Near(LoraLayerTests.Sum(shared, b, a, 0.5), merged[Head]);
        Assert.All(["shared", "encoder.embed_tokens", "decoder.embed_tokens"],
            name => Assert.Equal(shared.Values, merged[$"{prefix}{name}.weight"]));
        Assert.False(merge.Planned!.Config.TiesWordEmbeddings);
        Assert.Equal(type == "t5", merge.Planned.Config.ToJson().Bool("scale_decoder_outputs") ?? false);
    }

    [Fact]
    public void TokenRowsReachAHeadThatIsStoredThoughTied()
    {
        var (shared, rows) = (_random.Numbers(9, 5), _random.Numbers(1, 5));
        var merge = new TinyModel(Tied, (Embedding, shared), (Head, shared))
            .With("""{ "trainable_token_indices": [4] }""", ("model.embed_tokens.token_adapter.trainable_tokens_delta", rows));
        var merged = merge.Merge();
        var expected = shared.Values.ToArray();
        rows.Values.CopyTo(expected, 20);
        Assert.Equal(expected, merged[Embedding]);
        Assert.Equal(expected, merged[Head]);
        Assert.True(merge.Planned!.Config.TiesWordEmbeddings);
    }

    [Fact]
    public void AHeadOfOtherValuesIsNotTied()
    {
        var (embedding, head, rows) = (_random.Numbers(9, 5), _random.Numbers(9, 5), _random.Numbers(1, 5));
        var merge = new TinyModel(Tied, (Embedding, embedding), (Head, head))
            .With("""{ "trainable_token_indices": [4] }""", ("model.embed_tokens.token_adapter.trainable_tokens_delta", rows));
        Assert.Equal(head.Values, merge.Merge()[Head]);
    }

    /// <summary>The head may be anything where neither the class nor a tensor tells it; a base model has none.</summary>
    [Theory]
    [InlineData("\"CustomForMaskedLM\"", "model.embed_tokens", false)]
    [InlineData("", "tokens.table", false)]
    [InlineData("\"CustomModel\"", "model.embed_tokens", true)]
    [InlineData("\"CustomForTokenClassification\"", "model.embed_tokens", true)]
    [InlineData("\"BertModel\"", "embeddings.word_embeddings", true)]
    public void AChangedEmbeddingThatIsTiedToAnUnknownHeadIsRefused(string architectures, string module, bool merges)
    {
        var merge = new TinyModel(
            $$"""{ "model_type": "custom", "architectures": [{{architectures}}], "text_config": { "tie_word_embeddings": true } }""",
            (module + ".weight", _random.Numbers(9, 5)))
            .With("""{ "r": 2 }""", (module + ".lora_embedding_A", _random.Numbers(2, 9)),
                (module + ".lora_embedding_B", _random.Numbers(5, 2)));
        if (merges)
        {
            Assert.Single(merge.Merge());
            return;
        }

        var error = merge.Refused();
        Assert.Equal((MergeError.AdapterDoesNotFit, module + ".weight"), (error.Error, error.Target));
        Assert.Contains("tie_word_embeddings", error.Message, StringComparison.Ordinal);
    }

    /// <summary>transformers keeps BERT's bias under two names and stores it under one; PEFT saves both.</summary>
    [Fact]
    public void ABiasThatAClassHasTwiceIsStoredOnce()
    {
        var bias = _random.Numbers(9);
        var merge = new TinyModel("""{ "model_type": "bert", "architectures": ["BertForMaskedLM"] }""",
            ("bert.embeddings.word_embeddings.weight", _random.Numbers(9, 5)),
            ("cls.predictions.bias", _random.Numbers(9)))
            .With("""{ "r": 2, "bias": "all" }""", ("cls.predictions.bias", bias), ("cls.predictions.decoder.bias", bias));
        Numbers.Near(bias.Values, merge.Merge()["cls.predictions.bias"]);
    }

    [Fact]
    public void ATaskHeadComesOnlyOnceAndUnweighted()
    {
        const string Config = """{ "r": 2, "task_type": "SEQ_CLS" }""";
        TinyTensor embedding = (Embedding, _random.Numbers(9, 5)), score = ("score.weight", _random.Numbers(3, 5));
        new TinyModel(Tied, embedding).With(Config, score).With(Config, score).Refused("only one head");
        new TinyModel(Tied, embedding).With(Config, 0.5, score).Refused("must be 1, not 0.5");
    }

    [Theory]
    [InlineData("")]
    [InlineData("0, 5")]
    [InlineData("3000000000, 0")]
    public void ATaskHeadHasARowForEachLabel(string shape)
    {
        var dimensions = shape.Split(", ", StringSplitOptions.RemoveEmptyEntries).Select(long.Parse).ToArray();
        new TinyModel(Tied, (Embedding, _random.Numbers(9, 5)))
            .With("""{ "r": 2, "task_type": "SEQ_CLS" }""", TinyTensor.F32("score.weight", dimensions, new float[dimensions.Count()]))
            .Refused("LlamaForSequenceClassification", $"([{shape}])", "a row for each");
    }

    [Fact]
    public void ChangesOfTheHeadThatATaskHeadReplacesAreReportedAsNotNeeded()
    {
        var (embedding, score) = (_random.Numbers(9, 5), _random.Numbers(3, 5));
        var merge = new TinyModel(Tied, (Embedding, embedding))
            .With("""{ "r": 2 }""", TinyTensor.Lora("lm_head", _random.Numbers(2, 5), _random.Numbers(9, 2)))
            .With("""{ "r": 2, "task_type": "SEQ_CLS" }""", ("score.weight", score));
        var merged = merge.Merge();
        Assert.Equal(embedding.Values, merged[Embedding]);
        Assert.Equal(score.Values, merged["score.weight"]);
        Assert.False(merged.ContainsKey(Head));
        Assert.Contains(merge.Planned!.Warnings, w => w.Text.Contains("not needed", StringComparison.Ordinal));
        Assert.Contains(merge.Planned.Targets, t => t is { Module: "lm_head", Outcome: AdapterOutcome.NotNeeded });
    }

    [Fact]
    public void DeltasOfSingleExpertsAreCombined()
    {
        const int Experts = 3, Out = 2000, In = 256, Rank = 2;
        var fused = _random.Numbers(Experts, 2 * Out, In);
        const string Name = "model.layers.0.mlp.experts.gate_up_proj";
        var merge = new TinyModel("""{ "model_type": "qwen3_moe", "tie_word_embeddings": false }""", (Name, fused));
        var expected = fused.Values.ToArray();

        // One adapter on the first expert, another on the last: nothing to elect between, so ties of density 1 is their sum.
        foreach (var expert in new[] { 0, 2 })
        {
            var (a, b) = (_random.Numbers(Rank, In), _random.Numbers(Out, Rank));
            merge.With("""{ "r": 2 }""", TinyTensor.Lora($"model.layers.0.mlp.experts.{expert}.up_proj", a, b));
            for (var (o, at) = (0, ((expert * 2) + 1) * Out * In); o < Out; o++)
            {
                for (var i = 0; i < In; i++, at++)
                {
                    expected[at] += 0.5 * Enumerable.Range(0, Rank).Sum(k => b[o, k] * a[k, i]);
                }
            }
        }

        Numbers.Near(expected, merge.Merge(new PlanOptions { Combination = CombinationType.Ties, Density = 1 })[Name]);
    }
}
