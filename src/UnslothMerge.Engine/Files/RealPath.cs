namespace UnslothMerge.Files;

/// <summary>Paths with every symbolic link followed, so that two names of one directory compare equal.</summary>
internal static class RealPath
{
    // As many as Linux follows.
    private const int MaxLinks = 40;

    /// <summary>The real path; parts that do not exist yet are kept as they are.</summary>
    public static string Of(string path)
    {
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        if (Path.GetDirectoryName(full) is not { } parent)
        {
            return full;
        }

        var here = Path.Combine(Of(parent), Path.GetFileName(full));
        var target = Directory.Exists(here) ? Directory.ResolveLinkTarget(here, returnFinalTarget: true) : null;
        return target is null ? here : Of(target.FullName);
    }

    /// <summary>The real path of a file.</summary>
    /// <exception cref="IOException">Links lead around.</exception>
    public static string OfFile(string path)
    {
        // A link that is relative starts at the real folder.
        for (var links = 0; links < MaxLinks; links++)
        {
            var here = Path.Combine(Of(Path.GetDirectoryName(Path.GetFullPath(path))!), Path.GetFileName(path));
            if (File.ResolveLinkTarget(here, returnFinalTarget: false) is not { } target)
            {
                return here;
            }

            path = target.FullName;
        }

        throw new IOException($"'{path}' is one of more than {MaxLinks} links that lead to each other.");
    }

    /// <summary>True if one real path is the other or lies below it.</summary>
    public static bool IsWithin(string path, string directory) =>
        path.Equals(directory, Comparison)
            || path.StartsWith(Path.EndsInDirectorySeparator(directory) ? directory : directory + Path.DirectorySeparatorChar, Comparison);

    private static StringComparison Comparison => OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase;
}
