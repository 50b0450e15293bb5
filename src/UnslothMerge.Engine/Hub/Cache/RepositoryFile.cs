namespace UnslothMerge.Hub.Cache;

/// <summary>A file of a repository at a commit. The blob is git's SHA-1 of the content, or of the pointer of a large file, which has a
/// SHA-256 of its own.</summary>
internal sealed record RepositoryFile(string Path, long Size, string BlobId, string? Sha256 = null, string? XetHash = null)
{
    /// <summary>What its content is called in the cache.</summary>
    public string ETag => Sha256 ?? BlobId;

    /// <summary>True if the path stays in its folder, and hashes are hashes: both become names of files here.</summary>
    public bool IsSafe => IsSafePath(Path) && Size >= 0 && IsHash(BlobId, 40) && (Sha256 is null || IsHash(Sha256, 64));

    /// <summary>True for so many lower-case hexadecimal digits.</summary>
    public static bool IsHash(string text, int digits) => text.Length == digits && text.All(char.IsAsciiHexDigitLower);

    /// <summary>True for a relative path of plain names.</summary>
    public static bool IsSafePath(string path) =>
        path.Split('/').All(n => n.Length > 0 && n is not ("." or "..") && n.AsSpan().IndexOfAny(Separators) < 0);

    // A backslash and a colon are parts of names elsewhere.
    private static readonly char[] Separators = OperatingSystem.IsWindows() ? ['\\', ':', '\0'] : ['\0'];
}
