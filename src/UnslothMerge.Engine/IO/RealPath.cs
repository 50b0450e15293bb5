namespace UnslothMerge.IO;

/// <summary>Paths with every symbolic link followed, so that two names of one directory compare equal.</summary>
internal static class RealPath
{
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
    public static string OfFile(string path)
    {
        var full = File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? Path.GetFullPath(path);
        return Path.Combine(Of(Path.GetDirectoryName(full)!), Path.GetFileName(full));
    }

    /// <summary>True if one real path is the other or lies below it.</summary>
    public static bool IsWithin(string path, string directory) =>
        path.Equals(directory, Comparison)
            || path.StartsWith(Path.EndsInDirectorySeparator(directory) ? directory : directory + Path.DirectorySeparatorChar, Comparison);

    private static StringComparison Comparison => OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase;
}
