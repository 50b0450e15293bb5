using System.Security.Cryptography;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>The hash by which the Hub names a content: SHA-256 of large files, git's SHA-1 of the others.</summary>
internal sealed class ContentHash : IDisposable
{
    private readonly IncrementalHash _hash;
    private readonly string _expected;

    /// <summary>Begins to hash a file.</summary>
    public ContentHash(RepositoryFile file)
    {
        _expected = file.ETag;
#pragma warning disable CA5350 // git names blobs by SHA-1
        _hash = IncrementalHash.CreateHash(file.Sha256 is null ? HashAlgorithmName.SHA1 : HashAlgorithmName.SHA256);
#pragma warning restore CA5350
        if (file.Sha256 is null)
        {
            _hash.AppendData(Encoding.ASCII.GetBytes($"blob {file.Size}\0"));
        }
    }

    /// <summary>Takes the next bytes.</summary>
    public void Append(ReadOnlySpan<byte> bytes) => _hash.AppendData(bytes);

    /// <summary>True if the bytes were those of the file; to be asked once, after the last.</summary>
    public bool IsRight() => Convert.ToHexStringLower(_hash.GetHashAndReset()) == _expected;

    public void Dispose() => _hash.Dispose();
}
