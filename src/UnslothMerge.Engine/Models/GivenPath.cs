namespace UnslothMerge.Models;

/// <summary>What users give where a model or an adapter is asked for, and what they mean by it.</summary>
internal static partial class GivenPath
{
    /// <summary>The name (<c>org/name</c>) in the address of a page on the Hub; null for anything but an address.</summary>
    /// <exception cref="MergeException">The address is no model's, or names a revision.</exception>
    public static string? HubNameOf(string text)
    {
        if (!Address().IsMatch(text))
        {
            return null;
        }

        if (Model().Match(text) is not { Success: true } match)
        {
            throw new MergeException(
                MergeError.InvalidArgument, $"'{text}' is not the address of a model on the Hugging Face Hub.", text,
                "Give the model's name, org/name, or a local directory.");
        }

        var (name, revision) = (match.Groups["name"].Value, match.Groups["revision"].Value);
        return revision is "" or "main" ? name : throw new MergeException(
            MergeError.InvalidArgument, $"'{text}' names the revision '{revision}' of {name}.", text,
            $"Download it into a directory, and give that: hf download {name} --revision {revision} --local-dir DIRECTORY");
    }

    /// <summary>What to do with a file that was given where a directory is asked for.</summary>
    public static string AdviceForFile(string path) =>
        Path.GetExtension(path) is ".safetensors" or ".bin" or ".json"
            ? $"Pass the directory of that file: '{Path.GetDirectoryName(path)}'." : "Pass a directory.";

    /// <summary>What is wrong with a repository of the Hub's cache in which no snapshot can be told; null for any other
    /// directory.</summary>
    public static (string Lacks, string Advice)? WithoutSnapshot(string directory)
    {
        var name = Path.GetFileName(Path.TrimEndingDirectorySeparator(directory));
        if (!name.StartsWith("models--", StringComparison.Ordinal))
        {
            return null;
        }

        var hub = name["models--".Length..].Replace("--", "/", StringComparison.Ordinal);
        var snapshots = Path.Combine(directory, "snapshots");
        return Directory.Exists(snapshots) && Directory.EnumerateDirectories(snapshots).Any()
            ? ("is a repository of the Hugging Face cache with several snapshots, and nothing says which one is main",
                $"Pass one of the directories in '{snapshots}'.")
            : ("is a repository of the Hugging Face cache without a snapshot", $"Download it: hf download {hub}");
    }

    [GeneratedRegex(@"^(https?://|hf://|(www\.)?(huggingface\.co|hf\.co)/)", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Address();

    [GeneratedRegex(
        @"^(https?://)?(hf://|(www\.)?(huggingface\.co|hf\.co)/)(?!(datasets|spaces|docs|collections)/)"
            + @"(?<name>[\w.-]+/[\w.-]+)(/(tree|blob|resolve)/(?<revision>[^/?#]+)[^?#]*)?/?([?#].*)?$",
        RegexOptions.IgnoreCase | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex Model();
}
