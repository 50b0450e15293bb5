using System.Security.Cryptography;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>A file of a commit: the content of a regular one, or the hash and size of one in the storage.</summary>
internal sealed record HubFile(byte[]? Content, string? Lfs, long Size)
{
    /// <summary>Git's hash of what the repository has: the content, or the pointer.</summary>
    public string Oid => GitHash(Content ?? Encoding.UTF8.GetBytes(Pointer));

    public string Pointer => $"version https://git-lfs.github.com/spec/v1\noid sha256:{Lfs}\nsize {Size}\n";

    public static HubFile Regular(byte[] content) => new(content, null, content.Length);

    // The hash that Git has, not one to trust.
#pragma warning disable CA5350
    public static string GitHash(byte[] content) =>
        Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));
#pragma warning restore CA5350
}
