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
        var shared = Numbers.Random(_random, 1, 9, 5);
        var (a, b) = (Numbers.Random(_random, 1, 2, 5), Numbers.Random(_random, 1, 9, 2));
        using var merge = new TinyMerge(Tied, (Embedding, shared), (Head, shared));
        merge.With("""{ "r": 2 }""", 1, ("lm_head.lora_A.weight", a), ("lm_head.lora_B.weight", b));
        var merged = merge.Merge(new PlanOptions { KeepTied = keepTied });
        var expected = LoraLayerTests.Sum(shared, b, a, 0.5);
        TinyMerge.Near(expected, merged[Head]);
        TinyMerge.Near(keepTied ? expected : shared.Values, merged[Embedding]);
        Assert.Equal(keepTied, merge.Plan!.Config.TiesWordEmbeddings);
    }

    [Fact]
    public void TokenRowsReachAHeadThatIsStoredThoughTied()
    {
        var (shared, rows) = (Numbers.Random(_random, 1, 9, 5), Numbers.Random(_random, 1, 1, 5));
        using var merge = new TinyMerge(Tied, (Embedding, shared), (Head, shared));
        merge.With("""{ "trainable_token_indices": [4] }""", 1, ("model.embed_tokens.token_adapter.trainable_tokens_delta", rows));
        var merged = merge.Merge();
        var expected = shared.Values.ToArray();
        rows.Values.CopyTo(expected, 20);
        Assert.Equal(expected, merged[Embedding]);
        Assert.Equal(expected, merged[Head]);
        Assert.True(merge.Plan!.Config.TiesWordEmbeddings);
    }

    [Fact]
    public void AHeadOfOtherValuesIsNotTied()
    {
        var (embedding, head, rows) =
            (Numbers.Random(_random, 1, 9, 5), Numbers.Random(_random, 1, 9, 5), Numbers.Random(_random, 1, 1, 5));
        using var merge = new TinyMerge(Tied, (Embedding, embedding), (Head, head));
        merge.With("""{ "trainable_token_indices": [4] }""", 1, ("model.embed_tokens.token_adapter.trainable_tokens_delta", rows));
        Assert.Equal(head.Values, merge.Merge()[Head]);
    }

    [Fact]
    public void ATaskHeadComesOnlyOnceAndUnweighted()
    {
        using var twice = new TinyMerge(Tied, (Embedding, Numbers.Random(_random, 1, 9, 5)));
        foreach (var _ in new[] { 1, 2 })
        {
            twice.With("""{ "r": 2, "task_type": "SEQ_CLS" }""", 1, ("score.weight", Numbers.Random(_random, 1, 3, 5)));
        }

        Assert.Contains("only one head", twice.Fail().Message, StringComparison.Ordinal);
        using var weighted = new TinyMerge(Tied, (Embedding, Numbers.Random(_random, 1, 9, 5)));
        weighted.With("""{ "r": 2, "task_type": "SEQ_CLS" }""", 0.5, ("score.weight", Numbers.Random(_random, 1, 3, 5)));
        Assert.Contains("must be 1, not 0.5", weighted.Fail().Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ChangesOfTheHeadThatATaskHeadReplacesAreReportedAsNotNeeded()
    {
        var (embedding, score) = (Numbers.Random(_random, 1, 9, 5), Numbers.Random(_random, 1, 3, 5));
        using var merge = new TinyMerge(Tied, (Embedding, embedding));
        merge.With("""{ "r": 2 }""", 1, ("lm_head.lora_A.weight", Numbers.Random(_random, 1, 2, 5)),
            ("lm_head.lora_B.weight", Numbers.Random(_random, 1, 9, 2)))
            .With("""{ "r": 2, "task_type": "SEQ_CLS" }""", 1, ("score.weight", score));
        var merged = merge.Merge();
        Assert.Equal(embedding.Values, merged[Embedding]);
        Assert.Equal(score.Values, merged["score.weight"]);
        Assert.False(merged.ContainsKey(Head));
        Assert.Contains(merge.Plan!.Warnings, w => w.Contains("not needed", StringComparison.Ordinal));
        Assert.Contains(merge.Plan.Targets, t => t is { Module: "lm_head", Outcome: AdapterOutcome.NotNeeded });
    }

    [Fact]
    public void DeltasOfSingleExpertsAreCombined()
    {
        const int Experts = 3, Out = 2000, In = 256, Rank = 2;
        var fused = Numbers.Random(_random, 1, Experts, 2 * Out, In);
        const string Name = "model.layers.0.mlp.experts.gate_up_proj";
        using var merge = new TinyMerge("""{ "model_type": "qwen3_moe", "tie_word_embeddings": false }""", (Name, fused));
        var expected = fused.Values.ToArray();

        // One adapter on the first expert, another on the last: nothing to elect between, so ties of density 1 is their sum.
        foreach (var expert in new[] { 0, 2 })
        {
            var (a, b) = (Numbers.Random(_random, 1, Rank, In), Numbers.Random(_random, 1, Out, Rank));
            merge.With("""{ "r": 2 }""", 1, ($"model.layers.0.mlp.experts.{expert}.up_proj.lora_A.weight", a),
                ($"model.layers.0.mlp.experts.{expert}.up_proj.lora_B.weight", b));
            for (var (o, at) = (0, ((expert * 2) + 1) * Out * In); o < Out; o++)
            {
                for (var i = 0; i < In; i++, at++)
                {
                    expected[at] += 0.5 * Enumerable.Range(0, Rank).Sum(k => b[o, k] * a[k, i]);
                }
            }
        }

        TinyMerge.Near(expected, merge.Merge(new PlanOptions { Combination = CombinationType.Ties, Density = 1 })[Name]);
    }
}
