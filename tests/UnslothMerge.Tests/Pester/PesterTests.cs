using System.Collections.Concurrent;
using UnslothMerge.Shell;
using Xunit;

namespace UnslothMerge.Tests.Pester;

/// <summary>
/// Every It of tests/Pester/*.Tests.ps1 as a test of its own. A file runs once, when the first of its tests is asked for.
/// </summary>
public sealed class PesterTests
{
    /// <summary>The name of the one test of a file whose tests could not be found.</summary>
    private const string Discovery = "(discovery)";

    private static readonly ConcurrentDictionary<string, Lazy<PesterFile>> Files = new();

    public static IEnumerable<TheoryDataRow<string, string>> Its()
    {
        foreach (var path in Directory.EnumerateFiles(Folder(), "*.Tests.ps1").Order(StringComparer.Ordinal))
        {
            var name = Path.GetFileName(path);
            foreach (var (key, tags) in Listed(name))
            {
                // The empty label keeps the arguments, which say the same, out of the displayed name.
                var row = new TheoryDataRow<string, string>(name, key) { TestDisplayName = $"{name}: {key}", Label = "" };
                row.Traits["Tag"] = [.. tags];
                yield return row;
            }
        }
    }

    [Theory]
    [MemberData(nameof(Its))]
    public void Pester(string file, string it)
    {
        var outcome = Outcome(file, it);
        switch (outcome.Result)
        {
            case Result.Skipped:
                Assert.Skip(outcome.Detail);
                break;
            case Result.Failed:
                Assert.Fail(outcome.Detail);
                break;
            case Result.Passed:
                break;
        }
    }

    private static Outcome Outcome(string file, string it)
    {
        try
        {
            return Open(file).Outcome(it);
        }
        catch (PesterException error)
        {
            return new Outcome(Result.Failed, error.Message);
        }
    }

    private static IEnumerable<(string Key, IEnumerable<string> Tags)> Listed(string file)
    {
        try
        {
            return Open(file).Its.Select(it => (it.Key, it.AllTags));
        }
        catch (PesterException)
        {
            return [(Discovery, [])];
        }
    }

    private static PesterFile Open(string file) => Files.GetOrAdd(
        file,
        name => new Lazy<PesterFile>(() => PesterFile.Open(Path.Combine(Folder(), name), () => ShellRunspace.Create()))).Value;

    /// <summary>tests/Pester of the checkout: the files import the module from there.</summary>
    private static string Folder()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            var tests = Path.Combine(folder.FullName, "tests", "Pester");
            if (Directory.Exists(tests))
            {
                return tests;
            }
        }

        throw new DirectoryNotFoundException($"There is no tests/Pester above '{AppContext.BaseDirectory}'.");
    }
}
