using System.Text.Json.Nodes;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Tests.Tokenizers;

public sealed class RoundTripTests : IDisposable
{
    private const string Letters = "\u2581Helowrd,thisa.\u2581n";

    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_byte_level_tokenizer_gives_any_text_back(bool pairs)
    {
        TinyTokenizer.Fast(_directory.Path, pairs: pairs);
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
        TinyTokenizer.Fast(_directory.Path, merges: ["Ġ t", "i n"]);
        AssertPassed(false);
    }

    [Fact]
    public void A_vocabulary_that_gives_another_text_back_is_found_out()
    {
        var swapped = TinyTokenizer.Ids(TinyTokenizer.ByteLevel.Select(t => t == "z" ? "he" : t == "he" ? "zz" : t));
        Write("vocab.json", swapped.ToJsonString());
        Write("merges.txt", "z z\n");
        AssertPassed(false);
    }

    [Fact]
    public void Plain_pairs_use_a_mark_for_spaces()
    {
        var model = new JsonObject { ["type"] = "BPE", ["vocab"] = TinyTokenizer.Ids([.. Letters.Distinct().Select(c => $"{c}"), "he"]), ["merges"] = new JsonArray("h e") };
        Write("tokenizer.json", new JsonObject { ["model"] = model, ["decoder"] = new JsonObject { ["type"] = "ByteFallback" } }.ToJsonString());
        AssertPassed(true);
    }

    [Fact]
    public void SentencePiece_is_run()
    {
        TinyTokenizer.SentencePiece(_directory["tokenizer.model"], Letters);
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
    [InlineData("tokenizer_config.json", "{}")]
    public void What_cannot_be_run_is_neither_right_nor_wrong(string name, string text)
    {
        Write(name, text);
        AssertPassed(null);
    }

    private void AssertPassed(bool? passed)
    {
        var result = RoundTrip.Run(_directory.Path);
        Assert.True(result.Passed == passed, result.Detail);
        Assert.NotEmpty(result.Detail);
    }

    private void Write(string name, string text) => TinyTokenizer.Write(_directory.Path, name, text);
}
