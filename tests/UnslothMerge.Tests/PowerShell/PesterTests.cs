namespace UnslothMerge.Tests.PowerShell;

/// <summary>Every It of tests/Pester as a test of its own. One PowerShell runs all files before the first of them is shown.</summary>
public sealed class PesterTests
{
    private sealed record Result(string Name, string Failure);

    public static IEnumerable<TheoryDataRow<string>> Results()
    {
        using var directory = new TemporaryDirectory();
        var (run, results) = (Path.Combine(Fixtures.Root, "tests", "Pester", "Run.ps1"), directory["results.json"]);
        PowerShellProcess.Run($"& '{run}' -Pester '{PowerShellProcess.BuildPath("Pester")}' -Output '{results}'");

        // The empty label keeps the failure out of the displayed name.
        return JsonSerializer.Deserialize<Result[]>(File.ReadAllText(results))!
            .Select(r => new TheoryDataRow<string>(r.Failure) { TestDisplayName = r.Name, Label = "" });
    }

    // Not enumerated when tests are only looked for: that would run all of them.
    [Theory, MemberData(nameof(Results), DisableDiscoveryEnumeration = true)]
    public void Pester(string failure) => Assert.True(failure.Length == 0, failure);
}
