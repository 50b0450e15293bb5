using System.Collections;
using System.Management.Automation.Language;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers directories of one kind: those below the current location or below what has been typed, then those in the local Hugging
/// Face cache; then every directory, so that one can go on from there. It looks a few levels deep and for a moment only.</summary>
internal abstract class DirectoryCompleter : IArgumentCompleter
{
    private const int Depth = 4;
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(300);
    private static readonly EnumerationOptions Readable =
        new() { IgnoreInaccessible = true, AttributesToSkip = FileAttributes.Hidden | FileAttributes.System };

    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var word = CompletionText.Unquote(wordToComplete);
        var slash = word.LastIndexOfAny(['/', '\\']) + 1;
        var (folder, rest) = (word[..slash], word[slash..]);
        var (root, prefix) = (CompletionText.ProviderPath(folder.Length == 0 ? "." : folder), folder.Length == 0 ? "./" : folder);
        var found = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (relative, path) in Below(root, rest).Where(d => Is(d.Path, commandName)))
        {
            found.Add(path);
            yield return CompletionText.Result(prefix + relative, DirectoryTip.Of(path));
        }

        foreach (var (name, snapshot) in HubCache.Entries().Where(e => Matches(e.Name, word) && Is(e.Snapshot, commandName)))
        {
            yield return CompletionText.Result(name, DirectoryTip.Of(snapshot));
        }

        foreach (var (name, path) in CompletionText.Directories(root, rest).Where(d => !found.Contains(d.Path)))
        {
            yield return CompletionText.Result(prefix + name, path, CompletionResultType.ProviderContainer);
        }
    }

    /// <summary>True if a directory is of this completer's kind.</summary>
    private protected abstract bool Is(string directory, string commandName);

    private protected static bool IsAdapter(string directory) => File.Exists(Path.Combine(directory, "adapter_config.json"));

    private protected static bool IsModel(string directory) =>
        File.Exists(Path.Combine(directory, "config.json")) && Directory.EnumerateFiles(directory, "*.safetensors").Any();

    private static IEnumerable<(string Relative, string Path)> Below(string? root, string rest)
    {
        if (root is null || !Directory.Exists(root))
        {
            yield break;
        }

        var clock = System.Diagnostics.Stopwatch.StartNew();
        var level = new List<string> { root };
        for (var depth = 0; depth < Depth && level.Count > 0; depth++)
        {
            var next = new List<string>();
            foreach (var directory in level.SelectMany(Children))
            {
                if (clock.Elapsed > Patience)
                {
                    yield break;
                }

                next.Add(directory);
                var relative = Path.GetRelativePath(root, directory).Replace('\\', '/');
                if (Matches(relative, rest))
                {
                    yield return (relative, directory);
                }
            }

            level = next;
        }
    }

    private static IOrderedEnumerable<string> Children(string directory) =>
        Directory.GetDirectories(directory, "*", Readable).Order(StringComparer.OrdinalIgnoreCase);

    // By the beginning of the path or of its last part.
    private static bool Matches(string path, string word) =>
        path.StartsWith(word, StringComparison.OrdinalIgnoreCase)
            || path[(path.LastIndexOf('/') + 1)..].StartsWith(word, StringComparison.OrdinalIgnoreCase);
}

/// <summary>Offers directories alone, for what is written and for what lies anywhere.</summary>
internal sealed class FolderCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var word = CompletionText.Unquote(wordToComplete);
        var slash = word.LastIndexOfAny(['/', '\\']) + 1;
        var folder = word[..slash];
        return CompletionText.Directories(CompletionText.ProviderPath(folder.Length == 0 ? "." : folder), word[slash..])
            .Select(d => CompletionText.Result(
                (folder.Length == 0 ? "./" : folder) + d.Name, d.Path, CompletionResultType.ProviderContainer));
    }
}

/// <summary>Offers adapters: directories with an adapter_config.json.</summary>
internal sealed class AdapterCompleter : DirectoryCompleter
{
    private protected override bool Is(string directory, string commandName) => IsAdapter(directory);
}

/// <summary>Offers models: directories with a config.json and safetensors files.</summary>
internal sealed class ModelCompleter : DirectoryCompleter
{
    private protected override bool Is(string directory, string commandName) => IsModel(directory);
}

/// <summary>Offers what a command looks at: adapters for Get-LoraAdapter, else models.</summary>
internal sealed class PathCompleter : DirectoryCompleter
{
    private protected override bool Is(string directory, string commandName) =>
        commandName.EndsWith("LoraAdapter", StringComparison.OrdinalIgnoreCase) ? IsAdapter(directory) : IsModel(directory);
}
