using UnslothMerge.Hub.Cache;
using UnslothMerge.IO;
using UnslothMerge.Models;

namespace UnslothMerge.Saving;

/// <summary>Compares inputs with the hashes that are known of them: files in the Hub's cache are named by their SHA-256.</summary>
internal static class KnownHashes
{
    /// <summary>Begins to hash, beside the merge that reads the same files.</summary>
    /// <exception cref="MergeException">The task fails: a file is not what was published.</exception>
    public static Task Compare(IEnumerable<StoredFile> files, Action<MergeWarning> note, CancellationToken cancellation)
    {
        var known = files.Select(f => (File: f, Hash: HubCache.HashOf(f.Path))).Where(f => f.Hash is not null).ToList();
        if (known.Count == 0)
        {
            note(new MergeWarning(MergeWarningId.NothingVerified,
                "-Verify compares nothing: hashes are known of files in the Hub's cache only, and no input is one."));
        }

        return Task.Run(
            () =>
            {
                foreach (var (file, hash) in known)
                {
                    if (InputFiles.HashOf(file, cancellation) is var found && found != hash)
                    {
                        throw new MergeException(MergeError.InvalidModel,
                            $"'{file.Path}' is damaged: its SHA-256 is {found}, not {hash}.", file.Path,
                            $"Delete '{BlobOf(file, hash!)}': the next merge downloads it again.");
                    }
                }
            },
            cancellation);
    }

    private static string BlobOf(StoredFile file, string hash) =>
        Path.Combine(HubCache.BlobsOf(Path.GetDirectoryName(file.Path)!)!, hash);
}
