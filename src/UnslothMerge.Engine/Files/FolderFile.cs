namespace UnslothMerge.Files;

/// <summary>
/// Opens files of a model's or an adapter's folder. Whoever made the folder must not choose which other files of this machine are read: a
/// link is followed within the folder, and from a snapshot in a cache of the Hub to its blobs. The folder itself may be a link.
/// </summary>
internal static class FolderFile
{
    /// <summary>Opens a file for positional reads.</summary>
    /// <exception cref="IOException">It is no regular file, leads out of its folder, or cannot be opened.</exception>
    public static SafeFileHandle Open(string path)
    {
        var file = RegularFile.Open(path);
        try
        {
            RequireWithin(path, Path.GetDirectoryName(Path.GetFullPath(path))!);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Reads a whole file of at most so many bytes.</summary>
    /// <exception cref="IOException">It cannot be opened, or is longer.</exception>
    public static byte[] ReadAllBytes(string path, int limit = Limits.TextBytes)
    {
        using var file = Open(path);
        return RegularFile.ReadAllBytes(file, limit);
    }

    /// <summary>Reads a whole text in UTF-8, with or without a byte order mark.</summary>
    /// <exception cref="IOException">It cannot be opened, is longer, or is not UTF-8.</exception>
    public static string ReadText(string path, int limit = Limits.TextBytes) => RegularFile.Text(ReadAllBytes(path, limit));

    /// <summary>The lines of a text, as <see cref="ReadText"/> reads it.</summary>
    public static IEnumerable<string> ReadLines(string path) => RegularFile.Lines(ReadText(path));

    /// <summary>Checks that a file, if it is a link, leads to a file of a folder.</summary>
    /// <exception cref="IOException">It does not.</exception>
    public static void RequireWithin(string path, string folder)
    {
        if (new FileInfo(path).LinkTarget is null)
        {
            return;
        }

        var (target, real) = (RealPath.OfFile(path), RealPath.Of(folder));
        var blobs = new[] { real, folder }.Select(f => CacheSnapshot.Of(f)?.Blobs).OfType<string>();
        if (!blobs.Append(real).Any(f => RealPath.IsWithin(target, RealPath.Of(f))))
        {
            throw new IOException(
                $"it is a link to '{target}', outside of its folder. Put the file itself there, or give a link to the whole folder.");
        }
    }
}
