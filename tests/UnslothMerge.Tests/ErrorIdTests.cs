namespace UnslothMerge.Tests;

public sealed class ErrorIdTests
{
    [Fact]
    public void Every_error_id_is_documented() =>
        Assert.Equal([.. Enum.GetNames<MergeError>(), "OtherVersionLoaded", "UnexpectedError"], Rows("Errors"));

    [Fact]
    public void Every_warning_id_is_documented() => Assert.Equal(Enum.GetNames<MergeWarningId>(), Rows("Warnings"));

    private static IEnumerable<string> Rows(string heading) => File.ReadLines(Path.Combine(Fixtures.Root, "docs", "errors.md"))
        .SkipWhile(l => l != $"## {heading}").Skip(1).TakeWhile(l => !l.StartsWith('#'))
        .Where(l => l.StartsWith("| `", StringComparison.Ordinal)).Select(l => l.Split('`')[1]);
}
