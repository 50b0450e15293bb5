namespace UnslothMerge.Files;

/// <summary>Opens files of other people. A named pipe would never open, and a device would never end: only regular files are read.
/// </summary>
internal static class RegularFile
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Opens a file for positional reads.</summary>
    /// <exception cref="IOException">It is no regular file, or cannot be opened.</exception>
    public static SafeFileHandle Open(string path) =>
        FileStatus.Of(path) is { Kind: not FileKind.Regular and var kind }
            ? throw new IOException($"it is a {Name(kind)}, and only regular files are read.")
            : File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);

    /// <summary>Reads a whole file of at most so many bytes.</summary>
    /// <exception cref="IOException">It is no regular file, is longer, or cannot be read.</exception>
    public static byte[] ReadAllBytes(string path, int limit = Limits.TextBytes)
    {
        using var file = Open(path);
        return ReadAllBytes(file, limit);
    }

    /// <summary>Reads an open file.</summary>
    public static byte[] ReadAllBytes(SafeFileHandle file, int limit)
    {
        using var stream = new FileStream(file, FileAccess.Read, bufferSize: 0);
        if (stream.Length > limit)
        {
            throw new IOException($"it has {stream.Length} bytes; at most {limit} are read of such a file.");
        }

        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>Reads a whole text in UTF-8, with or without a byte order mark.</summary>
    /// <exception cref="IOException">It is no regular file, is longer, is not UTF-8, or cannot be read.</exception>
    public static string ReadText(string path, int limit = Limits.TextBytes) => Text(ReadAllBytes(path, limit));

    /// <summary>A text in UTF-8, with or without a byte order mark.</summary>
    /// <exception cref="IOException">It is not UTF-8.</exception>
    public static string Text(byte[] bytes)
    {
        try
        {
            return StrictUtf8.GetString(bytes).TrimStart('\uFEFF');
        }
        catch (DecoderFallbackException e)
        {
            throw new IOException($"it is not UTF-8: {e.Message}", e);
        }
    }

    /// <summary>The lines of a text, as <see cref="ReadText"/> reads it.</summary>
    public static IEnumerable<string> ReadLines(string path) => Lines(ReadText(path));

    /// <summary>The lines of a text.</summary>
    public static IEnumerable<string> Lines(string text)
    {
        using var reader = new StringReader(text);
        while (reader.ReadLine() is { } line)
        {
            yield return line;
        }
    }

    private static string Name(FileKind kind) => kind switch
    {
        FileKind.Directory => "directory",
        FileKind.NamedPipe => "named pipe",
        FileKind.Socket => "socket",
        _ => "device",
    };
}
