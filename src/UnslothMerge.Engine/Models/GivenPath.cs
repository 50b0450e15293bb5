namespace UnslothMerge.Models;

/// <summary>What users give where a model or an adapter is asked for, and what they mean by it.</summary>
internal static class GivenPath
{
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
}
