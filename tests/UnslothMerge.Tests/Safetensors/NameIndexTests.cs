namespace UnslothMerge.Tests.Safetensors;

public sealed class NameIndexTests
{
    [Fact]
    public void It_finds_every_name_and_no_other()
    {
        string[] names = [.. Enumerable.Range(0, 5000).Select(i => $"layers.{i}.weight")];
        var index = new NameIndex(i => names[i], 3);
        Assert.All(names, _ => Assert.True(index.TryAdd()));
        Assert.All(names, (n, i) => Assert.Equal(i, index.Find(n)));
        Assert.Equal(-1, index.Find("layers.5000.weight"));
    }

    [Fact]
    public void A_name_that_is_there_is_not_added()
    {
        var index = new NameIndex(i => i < 2 ? "a" : "b", 0);
        Assert.True(index.TryAdd());
        Assert.False(index.TryAdd());
        Assert.Equal(1, index.Count);
    }
}
