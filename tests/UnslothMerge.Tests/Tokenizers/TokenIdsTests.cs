namespace UnslothMerge.Tests.Tokenizers;

public sealed class TokenIdsTests : FileTests
{
    [Theory]
    [InlineData("""{"eos_token_id": 5}""", new long[] { 5 })]
    [InlineData("""{"eos_token_id": [5, 6]}""", new long[] { 5, 6 })]
    [InlineData("""{"eos_token_id": null}""", new long[0])]
    [InlineData("""{"text_config": {"eos_token_id": 5}}""", new long[] { 5 })]
    [InlineData("{}", new long[0])]
    public void A_config_states_one_id_or_several_or_none(string config, long[] ids) =>
        Assert.Equal(ids, TokenIds.Of((JsonObject)JsonNode.Parse(config)!, "eos"));

    [Theory]
    [InlineData("""{"eos_token_id": 260}""", """{"eos_token_id": [1, 260]}""", 261, null)]
    [InlineData("{}", null, 261, null)]
    [InlineData("""{"eos_token_id": 260}""", null, null, null)]
    [InlineData("""{"eos_token_id": 260}""", """{"eos_token_id": 2}""", 261, "generation_config.json says 2")]
    [InlineData("""{"eos_token_id": [1, 2]}""", """{"eos_token_id": 260}""", 261, "config.json says 1, 2")]
    [InlineData("{}", null, 260, "260 rows. The model cannot read the tokens beyond: '<|end|>' (260).")]
    public void What_does_not_agree_is_told(string config, string? generation, int? rows, string? problem)
    {
        TinyTokenizer.Fast(Temp.Path, eos: "<|end|>", added: ["<|start|>", "<|end|>"]);
        var configs = new Dictionary<string, JsonObject> { ["config.json"] = (JsonObject)JsonNode.Parse(config)! };
        if (generation is not null)
        {
            configs["generation_config.json"] = (JsonObject)JsonNode.Parse(generation)!;
        }

        var problems = TokenIds.Problems(ModelTokenizer.Read(Temp.Path)!, configs, rows);
        if (problem is null)
        {
            Assert.Empty(problems);
            return;
        }

        Assert.Contains(problem, Assert.Single(problems), StringComparison.Ordinal);
    }

    [Fact]
    public void A_special_token_without_an_id_is_told()
    {
        TinyTokenizer.Fast(Temp.Path, eos: "<|im_end|>");
        var problem = Assert.Single(TokenIds.Problems(ModelTokenizer.Read(Temp.Path)!, new Dictionary<string, JsonObject>(), 300));
        Assert.Contains("'<|im_end|>' is not in its vocabulary", problem, StringComparison.Ordinal);
    }
}
