namespace UnslothMerge.Files;

/// <summary>What a loss of power leaves of a file whose data were not yet on the disk: its name and length, and zeros.</summary>
internal static class ZeroedFile
{
    private const int Probe = 512;

    /// <summary>True if a file begins with zeros, as none does that somebody has written.</summary>
    public static bool Begins(string path)
    {
        using var file = RegularFile.Open(path);
        return RandomAccess.GetLength(file) is > 0 and var length && IsZero(file, 0, length);
    }

    /// <summary>True if a file ends with zeros, as no text does.</summary>
    public static bool Ends(string path)
    {
        using var file = RegularFile.Open(path);
        return RandomAccess.GetLength(file) is > 0 and var length && IsZero(file, Math.Max(0, length - Probe), length);
    }

    private static bool IsZero(SafeFileHandle file, long at, long length)
    {
        Span<byte> bytes = stackalloc byte[(int)Math.Min(length - at, Probe)];
        return file.ReadFully(bytes, at) && bytes.IndexOfAnyExcept((byte)0) < 0;
    }
}
