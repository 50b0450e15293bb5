using UnslothMerge.Saving;
using UnslothMerge.Saving.Parts;

namespace UnslothMerge.Hub.Publishing;

/// <summary>The one commit of a model whose shards several workers have sent: by their records, and with the files beside them.</summary>
internal sealed class PartsCommit
{
    private readonly SavedParts _parts;

    public PartsCommit(SavedParts parts)
    {
        _parts = parts;
        BaseId = PublishedFiles.BaseOf(parts.FilesFolder);
        Shards = [.. parts.Plan.Shards.Select(s => parts.Records.Read(s.Name, parts.Fingerprint)).Where(r => r?.Sha256 is not null)!];
        var sent = Shards.Select(s => s.Name).ToHashSet();
        parts.RequireNone([.. parts.Plan.Shards.Where(s => !sent.Contains(s.Name))], "not sent");
        Others = PublishedFiles.Open(parts.FilesFolder, BaseId, [], []);
        if (parts.Plan.Index(Shards.Sum(s => s.Bytes)) is var (name, text))
        {
            Others.Add(UploadFile.Of(Encoding.UTF8.GetBytes(text), name));
        }
    }

    /// <summary>The base, by its name on the Hub; null if it has none.</summary>
    public string? BaseId { get; }

    /// <summary>The records of all shards.</summary>
    public IReadOnlyList<ShardRecord> Shards { get; }

    /// <summary>The files beside them.</summary>
    public List<UploadFile> Others { get; }

    /// <summary>Commits, and removes the records. If that fails, all of them stay; what was committed is not committed again.</summary>
    public PublishResult Run(Publisher publisher, PublishPlan plan, IDisk disk, IProgress<UploadProgress>? progress,
        CancellationToken cancellation) => _parts.Finish(disk, () =>
    {
        var publication = publisher.Begin(plan, cancellation);
        var lost = Lost(publisher, () => publication, plan, Shards, cancellation).Select(s => s.Name).ToHashSet();
        _parts.RequireNone([.. _parts.Plan.Shards.Where(s => lost.Contains(s.Name))],
            $"not in the storage of '{plan.Target.Repository}' any more, which keeps files without a commit for a while only");
        foreach (var shard in Shards)
        {
            publication.Add(FileOf(shard), isLarge: true, plan.State.Files.GetValueOrDefault(shard.Name)?.ETag);
        }

        return publisher.Finish(publication, plan, Others, Publisher.ModelSummary, progress, cancellation);
    });

    /// <summary>The shards that the Hub has not, by their records. Nothing is asked of it for none.</summary>
    public static IReadOnlySet<ShardRecord> Lost(Publisher publisher, Func<Publication> publication, PublishPlan plan,
        IReadOnlyList<ShardRecord> shards, CancellationToken cancellation)
    {
        var missing = shards.Count == 0 ? []
            : publisher.Missing(publication(), plan, [.. shards.Select(FileOf)], cancellation).Select(m => m.File.Sha256!).ToHashSet();
        return shards.Where(s => missing.Contains(s.Sha256!)).ToHashSet();
    }

    private static UploadFile FileOf(ShardRecord shard) => UploadFile.There(shard.Name, shard.Bytes, shard.Sha256!);
}
