using System.Collections.Concurrent;
using System.Security.Cryptography;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>The storage of large files: objects by their SHA-256, uploads in parts, and addresses that are signed and expire.</summary>
internal sealed class HubStorage
{
    private int _epoch;
    private int _uploads;

    /// <summary>Larger files go up in parts of this size.</summary>
    public long PartSize { get; set; } = long.MaxValue;

    /// <summary>Objects that an upload is asked for although they are there: other repositories' are not always known.</summary>
    public HashSet<string> HideFromBatch { get; } = new(StringComparer.Ordinal);

    public Dictionary<string, byte[]> Objects { get; } = new(StringComparer.Ordinal);

    /// <summary>How often each object, or part of one, was taken.</summary>
    public ConcurrentDictionary<string, int> Taken { get; } = new(StringComparer.Ordinal);

    /// <summary>Uploads in parts that are not complete: the object's hash, and its parts.</summary>
    public Dictionary<string, (string Oid, SortedDictionary<int, byte[]> Parts)> Uploads { get; } = [];

    /// <summary>Makes every address invalid that was signed before.</summary>
    public void ExpireAddresses() => Interlocked.Increment(ref _epoch);

    public string Sign(string method, string path) => $"{path}?expires={_epoch}&signature={Signature(method, path, _epoch)}";

    public bool IsSigned(string method, string path, string query) =>
        query == $"?expires={_epoch}&signature={Signature(method, path, _epoch)}";

    public string Begin(string oid)
    {
        lock (Uploads)
        {
            var id = $"upload-{++_uploads}";
            Uploads[id] = (oid, []);
            return id;
        }
    }

    public string Put(byte[] content)
    {
        var oid = Convert.ToHexStringLower(SHA256.HashData(content));
        lock (Objects)
        {
            Objects[oid] = content;
        }

        return oid;
    }

    public byte[]? Get(string oid)
    {
        lock (Objects)
        {
            return Objects.GetValueOrDefault(oid);
        }
    }

    // Only this process must not guess it by accident.
    private static string Signature(string method, string path, int epoch) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"stand-in {method} {path} {epoch}")))[..16];
}
