namespace UnslothMerge.Tests.Tokenizers;

public sealed class RoundTripTests : FileTests
{
    private const string Letters = "\u2581Helowrd,thisa.\u2581n";

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_byte_level_tokenizer_gives_any_text_back(bool pairs)
    {
        TinyTokenizer.Fast(Temp.Path, pairs: pairs);
        AssertPassed(true);
    }

    [Fact]
    public void Vocabulary_and_merges_may_be_two_files()
    {
        Write("vocab.json", TinyTokenizer.Ids(TinyTokenizer.ByteLevel).ToJsonString());
        Write("merges.txt", "#version: 0.2\n" + string.Join('\n', TinyTokenizer.Merges));
        AssertPassed(true);
    }

    [Fact]
    public void Merges_of_another_vocabulary_are_found_out()
    {
        TinyTokenizer.Fast(Temp.Path, merges: ["Ġ t", "i n"]);
        AssertPassed(false);
    }

    [Fact]
    public void A_vocabulary_that_gives_another_text_back_is_found_out()
    {
        var ids = TinyTokenizer.Ids(TinyTokenizer.ByteLevel);
        ids["a"] = ids["e"]!.GetValue<int>();
        Write("vocab.json", ids.ToJsonString());
        Write("merges.txt", "h e\n");
        AssertPassed(false);
    }

    [Fact]
    public void Ids_beyond_the_embedding_are_found_out()
    {
        TinyTokenizer.Fast(Temp.Path);
        AssertPassed(true, rows: 259);
        AssertPassed(false, rows: 100);
    }

    [Fact]
    public void Plain_pairs_use_a_mark_for_spaces()
    {
        var model = new JsonObject { ["type"] = "BPE", ["vocab"] = TinyTokenizer.Ids([.. Letters.Distinct().Select(c => $"{c}"), "he"]),
            ["merges"] = new JsonArray("h e") };
        Write("tokenizer.json",
            new JsonObject { ["model"] = model, ["decoder"] = new JsonObject { ["type"] = "ByteFallback" } }.ToJsonString());
        AssertPassed(true);
    }

    [Theory]
    [InlineData("identity")]
    [InlineData("nmt_nfkc_cf")] // run with a text that is normal
    public void SentencePiece_is_run(string normalizer)
    {
        TinyTokenizer.SentencePiece(Temp["tokenizer.model"], Letters, normalizer);
        AssertPassed(true);
    }

    [Fact]
    public void Ranks_of_tiktoken_are_run()
    {
        Write("qwen.tiktoken", string.Join('\n', Enumerable.Range(0, 256).Select(b => $"{Convert.ToBase64String([(byte)b])} {b}")));
        AssertPassed(true);
    }

    [Theory]
    [InlineData("vocab.txt", "[UNK]\nword\n")]
    [InlineData("tokenizer.json", """{"model": {"type": "WordPiece", "vocab": {"[UNK]": 0}}}""")]
    [InlineData("tokenizer.json", """{"model": {"type": "Unigram", "vocab": [["a", 0]]}}""")]
    [InlineData("tokenizer.json", """{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {"a": 0}, "merges": []}}""")]
    [InlineData("tokenizer.json", """{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}""")]
    [InlineData("tokenizer.json", """{"model": {"type": "BPE", "vocab": {"h": 0}, "merges": ["x y"]}, "decoder": {"type": "ByteLevel"}}""")]
    [InlineData("vocab.json", """{"a": 0}""")]
    [InlineData("a.tiktoken", "YQ== 0\n")]
    public void What_cannot_be_run_is_neither_right_nor_wrong(string name, string text)
    {
        Write(name, text);
        AssertPassed(null);
    }

    private void AssertPassed(bool? passed, long? rows = null)
    {
        var result = ModelTokenizer.Read(Temp.Path)!.RoundTrip(rows);
        Assert.True(result.Passed == passed, result.Detail);
        Assert.NotEmpty(result.Detail);
    }

    private void Write(string name, string text) => TinyTokenizer.Write(Temp.Path, name, text);
}
