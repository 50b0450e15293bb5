using UnslothMerge.Shell;
using Xunit;

namespace UnslothMerge.Tests.Pester;

/// <summary>Runs the text of a test file in a bare runspace: the tests of the host itself use it.</summary>
internal static class TestFile
{
    /// <summary>The outcome of every test, by full name.</summary>
    public static IReadOnlyDictionary<string, Outcome> Run(string text)
    {
        var folder = Directory.CreateTempSubdirectory("UnslothMerge-");
        try
        {
            var path = Path.Combine(folder.FullName, "Some.Tests.ps1");
            File.WriteAllText(path, text);
            using var file = PesterFile.Open(path, () => ShellRunspace.CreateBare());
            return file.Its.ToDictionary(it => it.Key, it => file.Outcome(it.Key));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>The outcome of a single It with this body.</summary>
    public static Outcome RunIt(string body) => Run($"Describe 'd' {{ It 'i' {{ {body} }} }}")["d.i"];

    public static void Passes(string text) => Assert.All(
        Run(text),
        each => Assert.True(each.Value.Result == Result.Passed, $"{each.Key}: {each.Value}"));

    /// <summary>The message of a file that must not be discovered.</summary>
    public static string Refused(string text) => Assert.Throws<PesterException>(() => Run(text)).Message;
}
