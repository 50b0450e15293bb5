using System.Security.Cryptography;
using UnslothMerge.Adapters;
using UnslothMerge.Hub.Cache;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Saving;

/// <summary>Compares inputs with the hashes that are known of them: files in the Hub's cache, whoever stored them there, are named by their
/// hash.</summary>
internal static class KnownHashes
{
    private const int BufferBytes = 1024 * 1024;

    /// <summary>Compares what costs nothing: configs and other small files, and adapters, whose hashes merge.json has anyway.</summary>
    /// <exception cref="MergeException">One is not what was published.</exception>
    public static void Require(MergePlan plan, IEnumerable<string> carried)
    {
        var adapters = plan.Steps.Select(s => s.Adapter).ToList();
        var configs = adapters.Select(a => Path.Combine(a.Path, AdapterDirectory.ConfigName))
            .Prepend(Path.Combine(plan.Base.Path, TokenIds.ModelConfigName));
        foreach (var path in carried.Concat(configs).Concat(adapters.SelectMany(a => a.Trained.Select(t => t.Path))))
        {
            Require(path, default);
        }

        foreach (var adapter in adapters)
        {
            var path = adapter.Weights.Tensors[0].File.Path;
            if (HubCache.HashOf(path) is { Length: 64 } hash && hash != adapter.Hash.GetAwaiter().GetResult())
            {
                throw Damaged(path, hash);
            }
        }
    }

    /// <summary>Begins to hash all inputs, beside the merge that reads the same files.</summary>
    /// <exception cref="MergeException">The task fails: a file is not what was published.</exception>
    public static Task Compare(IEnumerable<StoredFile> files, Action<MergeWarning> note, CancellationToken cancellation)
    {
        var known = files.Select(f => f.Path).Where(p => HubCache.HashOf(p) is not null).ToList();
        if (known.Count == 0)
        {
            note(new MergeWarning(MergeWarningId.NothingVerified,
                "-Verify compares nothing: hashes are known of files in the Hub's cache only, and no input is one."));
        }

        return Task.Run(() => known.ForEach(p => Require(p, cancellation)), cancellation);
    }

    private static void Require(string path, CancellationToken cancellation)
    {
        if (HubCache.HashOf(path) is not { } name)
        {
            return;
        }

        if (!IsRight(path, name, cancellation))
        {
            throw Damaged(path, name);
        }
    }

    private static bool IsRight(string path, string name, CancellationToken cancellation)
    {
        try
        {
            using var file = RegularFile.Open(path);
            var length = RandomAccess.GetLength(file);
            using var hash = new ContentHash(new RepositoryFile(path, length, name, name.Length == 64 ? name : null));
#pragma warning disable CA5350 // a name, not a secret
            using var plain = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
#pragma warning restore CA5350
            var buffer = new byte[Math.Min(length, BufferBytes)];
            for (long at = 0; RandomAccess.Read(file, buffer, at) is var read and > 0; at += read)
            {
                cancellation.ThrowIfCancellationRequested();
                hash.Append(buffer.AsSpan(0, read));
                plain.AppendData(buffer.AsSpan(0, name.Length == 64 ? 0 : read));
            }

            // A mirror of the Hub may name small files by the SHA-1 of their content, not by git's.
            return hash.IsRight() || Convert.ToHexStringLower(plain.GetHashAndReset()) == name;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw FileReads.Failed(path, path, e);
        }
    }

    private static MergeException Damaged(string path, string hash) => new(
        MergeError.InvalidModel, $"'{path}' is damaged: its hash is not {hash}, by which the Hub names it.", path,
        $"Delete '{Path.Combine(HubCache.BlobsOf(Path.GetDirectoryName(path)!)!, hash)}': the next merge downloads it again.");
}
