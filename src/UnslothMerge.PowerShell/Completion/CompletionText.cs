using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>What completers share: quotes, and paths as the session means them.</summary>
internal static partial class CompletionText
{
    /// <summary>What a user typed, without quotes.</summary>
    public static string Unquote(string word) => word.Trim('\'', '"').Replace("''", "'", StringComparison.Ordinal);

    /// <summary>A completion, quoted if it must be.</summary>
    public static CompletionResult Result(string text, string tip, CompletionResultType type = CompletionResultType.ParameterValue) =>
        new(Plain().IsMatch(text) ? text : $"'{text.Replace("'", "''", StringComparison.Ordinal)}'", text, type, tip);

    /// <summary>The directories directly below one whose names begin with a word; hidden ones if the word says so.</summary>
    public static IEnumerable<(string Name, string Path)> Directories(string? root, string word)
    {
        if (root is null || !Directory.Exists(root))
        {
            return [];
        }

        var options = new EnumerationOptions
        {
            IgnoreInaccessible = true,
            AttributesToSkip = word.StartsWith('.') ? FileAttributes.None : FileAttributes.Hidden | FileAttributes.System,
        };
        return Directory.EnumerateDirectories(root, "*", options).Select(d => (Name: Path.GetFileName(d), Path: d))
            .Where(d => d.Name.StartsWith(word, StringComparison.OrdinalIgnoreCase)).OrderBy(d => d.Name, StringComparer.OrdinalIgnoreCase);
    }

    /// <summary>A path of the session as one of the file system; null where it is none.</summary>
    public static string? ProviderPath(string path)
    {
        using var shell = System.Management.Automation.PowerShell.Create(RunspaceMode.CurrentRunspace);
        var found = shell.AddScript(
            "param($path) $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($path)").AddArgument(path)
                .Invoke<string>();
        return shell.HadErrors ? null : found.FirstOrDefault();
    }

    /// <summary>The directory of a model, by path or by its name in the cache; null where there is none.</summary>
    public static string? ModelPath(string path) =>
        ProviderPath(path) is { } directory && Directory.Exists(directory) ? directory : HubCache.Find(path);

    [GeneratedRegex(@"^[\w./\\:~*?+%-]+$")]
    private static partial Regex Plain();
}
