using System.Buffers;

namespace UnslothMerge.Files;

/// <summary>What several calls of a disk do together.</summary>
internal static class DiskExtensions
{
    private const UnixFileMode WritableByOthers = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    /// <summary>Makes a directory and the parents that it lacks; gives those that it made, the innermost first.</summary>
    public static IReadOnlyList<string> CreateTree(this IDisk disk, string path)
    {
        var made = new List<string>();
        for (var missing = path; missing is not null && !Directory.Exists(missing); missing = Path.GetDirectoryName(missing))
        {
            made.Add(missing);
        }

        foreach (var directory in Enumerable.Reverse(made))
        {
            disk.CreateDirectory(directory);
        }

        return made;
    }

    /// <summary>Writes a new file.</summary>
    public static void WriteFile(this IDisk disk, string path, ReadOnlySpan<byte> bytes)
    {
        using var file = disk.Create(path);
        disk.Write(file, bytes, 0);
        disk.Close(file);
    }

    /// <summary>Writes a new text in UTF-8.</summary>
    public static void WriteText(this IDisk disk, string path, string text) => disk.WriteFile(path, Encoding.UTF8.GetBytes(text));

    /// <summary>Writes a text to a file that is there whole or not at all, or as it was before.</summary>
    public static void ReplaceText(this IDisk disk, string path, string text, bool sync) =>
        disk.Replace(path, output => output.Write(Encoding.UTF8.GetBytes(text)), sync);

    /// <summary>Writes a new file, a buffer at a time.</summary>
    public static void WriteFile(this IDisk disk, string path, Action<IBufferWriter<byte>> write)
    {
        using var file = disk.Create(path);
        PieceWriter.Write(write, (bytes, at) => disk.Write(file, bytes, at));
        disk.Close(file);
    }

    /// <summary>Writes a file that is there whole or not at all, or as it was before; until then it has a temporary name.</summary>
    public static void Replace(
        this IDisk disk, string path, Action<IBufferWriter<byte>> write, bool sync, string? temporary = null)
    {
        temporary ??= path + ".part";
        disk.DeleteIfThere(temporary);
        disk.WriteFile(temporary, write);
        if (sync)
        {
            disk.Flush(temporary);
        }

        disk.Move(temporary, path);
        if (sync)
        {
            disk.FlushDirectory(Path.GetDirectoryName(path)!);
        }
    }

    /// <summary>Copies a file to a new one, which gets the mode that the process gives new files, but nobody else may write it.</summary>
    public static void Copy(this IDisk disk, string path, string target)
    {
        using var source = Reading(path, () => disk.Open(path));
        using var copy = disk.Create(target);
        if (!OperatingSystem.IsWindows() && File.GetUnixFileMode(copy) is var mode && (mode & WritableByOthers) != 0)
        {
            File.SetUnixFileMode(copy, mode & ~WritableByOthers);
        }

        var buffer = new byte[1024 * 1024];
        var at = 0L;
        while (Reading(path, () => disk.Read(source, buffer, at)) is > 0 and var read)
        {
            disk.Write(copy, buffer.AsSpan(0, read), at);
            at += read;
        }

        disk.Close(copy);
    }

    // An error of the source must not blame the target.
    private static T Reading<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw FileReads.Failed(path, path, e);
        }
    }

    /// <summary>Flushes all files and directories below a directory, and itself.</summary>
    public static void FlushTree(this IDisk disk, string path)
    {
        foreach (var file in Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories))
        {
            disk.Flush(file);
        }

        foreach (var directory in Directory.EnumerateDirectories(path, "*", SearchOption.AllDirectories).Append(path))
        {
            disk.FlushDirectory(directory);
        }
    }

    /// <summary>Deletes a directory with all that is in it, or a file; links are deleted and not followed.</summary>
    public static void DeleteTree(this IDisk disk, string path)
    {
        var directory = new DirectoryInfo(path);
        if (!directory.Exists || directory.LinkTarget is not null)
        {
            disk.DeleteFile(path);
            return;
        }

        foreach (var entry in Entries(path))
        {
            disk.DeleteTree(entry);
        }

        disk.DeleteDirectory(path);
    }

    /// <summary>Deletes what is at a path, if anything is.</summary>
    public static void DeleteIfThere(this IDisk disk, string path)
    {
        if (Path.Exists(path) || new FileInfo(path).LinkTarget is not null)
        {
            disk.DeleteTree(path);
        }
    }

    /// <summary>All that lies in a directory, hidden entries included, in order.</summary>
    public static IReadOnlyList<string> Entries(string directory) =>
        [.. Directory.EnumerateFileSystemEntries(directory, "*", new EnumerationOptions { AttributesToSkip = 0 })
            .Order(StringComparer.Ordinal)];
}
