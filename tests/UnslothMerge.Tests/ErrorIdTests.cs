namespace UnslothMerge.Tests;

public sealed class ErrorIdTests
{
    [Fact]
    public void Every_error_id_is_documented()
    {
        var rows = File.ReadLines(Path.Combine(Fixtures.Root, "docs", "errors.md"))
            .Where(l => l.StartsWith("| `", StringComparison.Ordinal)).Select(l => l.Split('`')[1]);
        Assert.Equal([.. Enum.GetNames<MergeError>(), "FileNotAccessible", "UnexpectedError"], rows);
    }
}
