namespace UnslothMerge.Tests.Planning;

public sealed class ShardSplitterTests
{
    [Theory]
    [InlineData("3 3 3", 6, "0 1|2")] // exactly the limit stays in one shard
    [InlineData("6 1", 6, "0|1")]
    [InlineData("7 1", 6, "0|1")]
    [InlineData("1 7 1", 6, "1|0 2")] // the oversized one is a shard of its own, and the open shard goes on
    [InlineData("1 7 6", 6, "1|0|2")]
    [InlineData("7 8 9", 6, "0|1|2")]
    [InlineData("0 0", 1, "0 1")]
    [InlineData("6 0 1", 6, "0 1|2")]
    [InlineData("", 6, "")]
    public void Tensors_are_split_as_the_hubs_library_splits_them(string sizes, long limit, string expected)
    {
        var split = ShardSplitter.Split([.. sizes.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(long.Parse)], limit);
        Assert.Equal(expected, string.Join('|', split.Select(s => string.Join(' ', s))));
    }

    [Fact]
    public void Every_tensor_is_in_one_shard_and_only_lone_ones_exceed_the_limit() =>
        Gen.Select(Gen.Long[0, 20].Array[0, 30], Gen.Long[1, 25]).Sample((sizes, limit) =>
    {
        var split = ShardSplitter.Split(sizes, limit);
        Assert.Equal(Enumerable.Range(0, sizes.Length), split.SelectMany(s => s).Order());
        Assert.All(split, s => Assert.True(s.Count == 1 || s.Sum(i => sizes[i]) <= limit));
        Assert.All(split, s => Assert.Equal(s.Order(), s));

        // No shard is closed for nothing: what begins the next one would not have fitted.
        var usual = split.Where(s => s.Count > 1 || sizes[s[0]] <= limit).ToList();
        Assert.All(usual.Zip(usual.Skip(1)), pair => Assert.True(pair.First.Sum(i => sizes[i]) + sizes[pair.Second[0]] > limit));
    });

    [Fact]
    public void Shards_are_named_as_on_the_hub()
    {
        Assert.Equal("model.safetensors", ShardSplitter.FileName(0, 1));
        Assert.Equal("model-00001-of-00002.safetensors", ShardSplitter.FileName(0, 2));
        Assert.Equal("model.fp16.safetensors", ShardSplitter.FileName(0, 1, "fp16"));
        Assert.Equal("model.fp16-00001-of-00002.safetensors", ShardSplitter.FileName(0, 2, "fp16"));
        Assert.Equal("model-00163-of-00163.safetensors", ShardSplitter.FileName(162, 163));
    }
}
