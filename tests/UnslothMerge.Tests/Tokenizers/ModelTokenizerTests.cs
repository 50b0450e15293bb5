namespace UnslothMerge.Tests.Tokenizers;

public sealed class ModelTokenizerTests : FileTests
{
    [Fact]
    public void A_fast_tokenizer_has_the_tokens_of_its_model_and_those_that_were_added()
    {
        TinyTokenizer.Fast(Temp.Path, eos: "<|end|>", added: ["<|start|>", "<|end|>"], template: "{{ messages }}");
        var tokenizer = Read();
        Assert.Equal(261, tokenizer.Count);
        Assert.Equal(260, tokenizer.LargestId);
        Assert.Equal(new SpecialToken("eos", "<|end|>", 260), Assert.Single(tokenizer.Special));
        Assert.Equal("<|start|>", tokenizer.Added[259]);
        Assert.True(tokenizer.HasChatTemplate);
    }

    [Fact]
    public void Special_tokens_may_be_objects_and_come_from_either_file()
    {
        Write("vocab.json", """{"a": 0, "<\/s>": 1, "é": 2}""");
        Write("tokenizer_config.json",
            """{"eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null, "added_tokens_decoder": {"7": {"content":""" +
            """ "<p>"}}, "chat_template": "x"}""");
        Write("special_tokens_map.json", """{"eos_token": "a", "bos_token": "é", "pad_token": {"content": "<p>"}}""");
        Write("added_tokens.json", """{"<extra>": 5}""");
        var tokenizer = Read();
        Assert.Equal([new("eos", "</s>", 1), new("bos", "é", 2), new("pad", "<p>", 7)], tokenizer.Special);
        Assert.Equal((5, 7), (tokenizer.Count, tokenizer.LargestId));
        Assert.Equal(["<extra>", "<p>"], tokenizer.Added.Values);
        Assert.True(tokenizer.HasChatTemplate);
    }

    [Fact]
    public void A_token_that_the_vocabulary_does_not_have_has_no_id()
    {
        Write("vocab.txt", "[PAD]\n[CLS]\nword\n");
        Write("special_tokens_map.json", """{"pad_token": "[PAD]", "eos_token": "</s>"}""");
        Assert.Equal([new("eos", "</s>", null), new("pad", "[PAD]", 0)], Read().Special);
    }

    [Fact]
    public void Unigram_pieces_have_their_places_as_ids()
    {
        Write("tokenizer.json",
            """{"version": "1.0", "model": {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", -1.5]]}}""");
        Write("tokenizer_config.json", """{"eos_token": "</s>"}""");
        Assert.Equal((3, 2), (Read().Count, Read().LargestId));
        Assert.Equal(1, Assert.Single(Read().Special).Id);
    }

    [Fact]
    public void Every_other_kind_of_vocabulary_is_counted()
    {
        TinyTokenizer.SentencePiece(Temp["tokenizer.model"], "abc");
        Write("tokenizer_config.json", """{"eos_token": "</s>"}""");
        Assert.Equal((6, 2), (Read().Count, Read().Special[0].Id!.Value));
        Write("qwen.tiktoken", "IQ== 0\nIg== 1\nIw== 2\n");
        Assert.Equal(3, Read().Count);
        File.Delete(Temp["qwen.tiktoken"]);
        File.Delete(Temp["tokenizer.model"]);
        Write("tekken.json", """{"config": {"default_vocab_size": 40}, "vocab": []}""");
        Assert.Equal((40, 39), (Read().Count, Read().LargestId));
    }

    [Fact]
    public void One_vocabulary_for_each_language_is_read_too()
    {
        Write("vocab.json", """{"eng": {"a": 0, "b": 1}, "deu": {"ß": 2}}""");
        Assert.Equal((3, 2), (Read().Count, Read().LargestId));
    }

    [Fact]
    public void Without_a_vocabulary_there_is_no_tokenizer()
    {
        Write("tokenizer_config.json", "{}");
        Assert.Null(ModelTokenizer.Read(Temp.Path));
    }

    [Theory]
    [InlineData("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n")]
    [InlineData("tokenizer.json", "[]")]
    [InlineData("tokenizer.json", "{}")]
    [InlineData("added_tokens.json", """{"<p>": null}""")]
    [InlineData("tokenizer.json", """{"model": {"vocab": {"a": 0""")]
    [InlineData("vocab.json", """{"a": 0.5}""")]
    [InlineData("tokenizer.model", "version https://git-lfs.github.com/spec/v1\n")]
    [InlineData("x.tiktoken", "IQ== a\n")]
    [InlineData("tekken.json", "{}")]
    public void What_is_no_vocabulary_is_named(string name, string text)
    {
        if (name == "added_tokens.json")
        {
            Write("vocab.txt", "a\n");
        }

        Write(name, text);
        Errors.Expect(MergeError.InvalidModel, () => Read(), name, "-Tokenizer");
    }

    private ModelTokenizer Read() => ModelTokenizer.Read(Temp.Path)!;

    private void Write(string name, string text) => TinyTokenizer.Write(Temp.Path, name, text);
}
