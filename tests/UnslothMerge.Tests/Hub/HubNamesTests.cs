namespace UnslothMerge.Tests.Hub;

public sealed class HubNamesTests
{
    private static readonly Uri Endpoint = new("https://hub.example:8443");

    [Theory]
    [InlineData("org/name", "org/name", null, null)]
    [InlineData("org/name@v1.0", "org/name", "v1.0", null)]
    [InlineData("org/name@refs/pr/7", "org/name", "refs/pr/7", null)]
    [InlineData("org/name/checkpoint-500", "org/name", null, "checkpoint-500")]
    [InlineData("org/name/a/b@main", "org/name", "main", "a/b")]
    [InlineData("hf://org/name@dev/sub/folder", "org/name", "dev", "sub/folder")]
    [InlineData("hf://models/org/name", "org/name", null, null)]
    [InlineData("hf://org/name@refs/pr/7/sub", "org/name", "refs/pr/7", "sub")]
    [InlineData("https://huggingface.co/org/name", "org/name", null, null)]
    [InlineData("https://hub.example:8443/org/name/tree/dev/sub?x=1", "org/name", "dev", "sub")]
    [InlineData("https://huggingface.co/org/name/tree/refs%2Fpr%2F7", "org/name", "refs/pr/7", null)]
    [InlineData("https://huggingface.co/org/name/blob/main/sub/adapter_config.json", "org/name", "main", "sub")]
    [InlineData("https://hf.co/gpt2/resolve/main/config.json", "gpt2", "main", null)]
    public void A_reference_is_read(string text, string id, string? revision, string? folder) =>
        Assert.Equal(new HubReference(id, revision, folder), HubReference.Parse(text, Endpoint));

    [Theory]
    [InlineData("name")]
    [InlineData("./out")]
    [InlineData("/abs/olute")]
    [InlineData("org/name@")]
    [InlineData("org//name")]
    [InlineData("or--g/name")]
    [InlineData("org/name.git")]
    [InlineData("org/-name")]
    [InlineData("org/name/../x")]
    [InlineData("https://elsewhere.example/org/name")]
    [InlineData("https://huggingface.co/datasets/org/name")]
    [InlineData("https://huggingface.co/org/name/tree")]
    public void Anything_else_is_none(string text) => Assert.Null(HubReference.Parse(text, Endpoint));

    [Fact]
    public void Names_follow_the_rules_of_the_Hub()
    {
        Assert.All(["org/name", "a/b", "Qwen/Qwen2.5-0.5B_x"], n => Assert.True(HubName.IsOne(n), n));
        Assert.All(
            ["name", "a/b/c", "org/", "/name", ".org/name", "org/name-", $"org/{new string('a', 97)}", "org/na me", "ö/x", "a..b/c"],
            n => Assert.False(HubName.IsOne(n), n));
    }
}
