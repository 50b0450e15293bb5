using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>A repository of the Hub at a commit, or a folder of it: what it has, and what of that is in the cache.</summary>
internal sealed class HubModel
{
    private const string Main = "main";

    private readonly bool _wasAsked;
    private bool _isRemembered;

    private HubModel(HubClient client, HubReference reference, CachedRepository cache, string commit, bool wasAsked)
    {
        (Client, Reference, Cache, Commit, _wasAsked) = (client, reference, cache, commit, wasAsked);
    }

    /// <summary>Who asks the Hub.</summary>
    public HubClient Client { get; }

    /// <summary>What the user asked for.</summary>
    public HubReference Reference { get; }

    /// <summary>Where it is kept.</summary>
    public CachedRepository Cache { get; }

    /// <summary>The commit.</summary>
    public string Commit { get; }

    /// <summary>All files of the commit; null if nobody may be asked and nobody ever did.</summary>
    public IReadOnlyList<RepositoryFile>? All { get; private set; }

    /// <summary>True if weights are read from the Hub during a run, and not kept.</summary>
    public bool Streams { get; set; }

    /// <summary>The directory of the files, or of the folder that is meant.</summary>
    public string Directory => Reference.Folder is { } folder ? Cache.Pointer(Commit, folder) : Cache.Snapshot(Commit);

    /// <summary>The files of the folder that is meant.</summary>
    public IReadOnlyList<RepositoryFile> Files =>
        [.. (All ?? []).Where(f => f.Path.StartsWith(Prefix, StringComparison.Ordinal))];

    private string Prefix => Reference.Folder is { } folder ? folder + "/" : "";

    /// <summary>Finds the commit that a name means, and its files. The Hub is asked where a branch or tag leads now, and for files that
    /// were never listed; if it does not answer, the cache does.</summary>
    public static HubModel Find(HubClient client, HubReference reference, CancellationToken cancellation)
    {
        var settings = client.Settings;
        var cache = new CachedRepository(settings.Cache, reference.Id, settings.Symlinks);
        var revision = reference.Revision ?? Main;
        var known = reference.IsPinned ? revision : cache.ReadRef(revision) ?? (reference.Revision is null ? OnlyOne(cache) : null);
        var isCached = known is not null && System.IO.Directory.Exists(cache.Snapshot(known));
        var commit = reference.IsPinned || settings.Offline ? known
            : Try(client, isCached, known, () => Ask(client, reference, revision, isCached, cancellation));
        if (commit is null || (settings.Offline && !isCached))
        {
            throw new HubException(
                MergeError.HubNotFound, $"'{reference}' is not in the cache '{settings.Cache}', and the Hub may not be asked.",
                reference.Id,               "Remove HF_HUB_OFFLINE or -Offline to download it.");
        }

        var model = new HubModel(client, reference, cache, commit, wasAsked: !reference.IsPinned && !settings.Offline);
        model.All = cache.ReadListing(commit) ?? (settings.Offline ? null
            : Try(client, System.IO.Directory.Exists(cache.Snapshot(commit)), null, () => List(client, reference, commit, cancellation)));
        model.RequireFolder();
        return model;
    }

    /// <summary>The path of a file within the folder that is meant.</summary>
    public string RelativePath(RepositoryFile file) => file.Path[Prefix.Length..];

    /// <summary>The file at a path within the folder; null if there is none.</summary>
    public RepositoryFile? FileAt(string path) => All?.FirstOrDefault(f => f.Path == Prefix + path);

    /// <summary>True if a file is in the cache.</summary>
    public bool Has(RepositoryFile file) => Cache.Has(Commit, file) || FileStatusOf(file) == file.Size;

    /// <summary>Lets the cache know the branch, the listing, and which of the files that readers ask for are not there.</summary>
    public void Remember(IEnumerable<string> askedFor)
    {
        if (_isRemembered)
        {
            return;
        }

        _isRemembered = true;
        try
        {
            Write(askedFor);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Client.Say($"The cache '{Cache.Root}' cannot be written: {e.Message}");
        }
    }

    /// <summary>Downloads files into the cache.</summary>
    public void Download(IReadOnlyList<RepositoryFile> files, Action<DownloadProgress>? progress, CancellationToken cancellation)
    {
        RequireRoom(files);
        Downloader.Run(Client, Cache, Commit, files, progress, cancellation);
    }

    /// <summary>The name that means this commit for ever.</summary>
    public string Pinned => (Reference with { Revision = Commit }).ToString();

    public override string ToString() => $"{Reference.Id}@{Commit[..Math.Min(Commit.Length, 8)]}";

    private void Write(IEnumerable<string> askedFor)
    {
        System.IO.Directory.CreateDirectory(Cache.Snapshot(Commit));
        if (_wasAsked)
        {
            Cache.WriteRef(Reference.Revision ?? Main, Commit);
        }

        if (All is not null && Cache.ReadListing(Commit) is null)
        {
            Cache.WriteListing(Commit, All);
        }

        foreach (var path in askedFor.Where(p => All is not null && FileAt(p) is null))
        {
            Cache.WriteMissing(Commit, Prefix + path);
        }
    }

    private long? FileStatusOf(RepositoryFile file) => new FileInfo(Cache.Blob(file.ETag)) is { Exists: true } blob ? blob.Length : null;

    private void RequireFolder()
    {
        if (All is not null && Reference.Folder is not null && Files.Count == 0)
        {
            var folders = All.Select(f => f.Path.Split('/')).Where(p => p.Length > 1).Select(p => p[0]).Distinct().Take(5).ToList();
            throw new HubException(
                MergeError.HubNotFound, $"'{Reference.Id}' has no folder '{Reference.Folder}' at {Reference.Revision ?? Main}.",
                Reference.Id,
                folders.Count > 0 ? $"It has {string.Join(", ", folders)}." : "It has no folders: leave the folder out.");
        }
    }

    /// <summary>True if the cache's disk has room for files, as far as it says.</summary>
    public bool HasRoomFor(IEnumerable<RepositoryFile> files) =>
        DiskSpace.At(Cache.Root) is not { } free || free >= files.Where(f => !Has(f)).Sum(f => f.Size);

    private void RequireRoom(IReadOnlyList<RepositoryFile> files)
    {
        if (!HasRoomFor(files))
        {
            var (bytes, free) = (files.Where(f => !Has(f)).Sum(f => f.Size), DiskSpace.At(Cache.Root) ?? 0);
            var (needed, left) = ByteSize.Distinct(bytes, free);
            throw new MergeException(
                MergeError.DoesNotFit,
                $"'{Reference.Id}' takes {needed} more, but only {left} are free at the cache '{Cache.Root}'.",
                Reference.Id,
                "Free some space, choose another cache with HF_HUB_CACHE, or use -Stream to read the base without storing it.");
        }
    }

    private static string? OnlyOne(CachedRepository cache) =>
        System.IO.Directory.Exists(cache.Snapshots) && System.IO.Directory.GetDirectories(cache.Snapshots) is [var only]
            ? Path.GetFileName(only) : null;

    // The cache stands in for a Hub that is away, or that does not show the repository any more; not for a branch that is gone.
    private static T? Try<T>(HubClient client, bool isCached, T? cached, Func<T> ask)
        where T : class
    {
        try
        {
            return ask();
        }
        catch (HubException e) when (isCached && e.Code != "RevisionNotFound")
        {
            client.Say($"{e.Message} Using what is in the cache, which may be older.", isWarning: true);
            return cached;
        }
    }

    private static string Ask(HubClient client, HubReference reference, string revision, bool isCached, CancellationToken cancellation)
    {
        var call = new HubCall(
            HttpMethod.Get, $"/api/models/{reference.Id}/revision/{HubCall.Escape(revision)}", $"Looking for '{reference}'")
        {
            Repository = reference.Id,
            Revision = revision,
            Retry = HubRetry.Never,
            Timeout = client.Settings.MetadataTimeout,
        };
        HubAnswer answer;
        try
        {
            answer = client.Json(call, cancellation);
        }
        catch (HubException e) when (e.MayRepeat && !isCached && !IsAway(e))
        {
            answer = client.Json(call with { Retry = HubRetry.Standard }, cancellation);
        }

        return answer["sha"].RequiredCommit;
    }

    // What is no directory here may be a slip, which should not take half a minute to say.
    private static bool IsAway(HubException e) =>
        e.InnerException is HttpRequestException { HttpRequestError: var why }
            && why is HttpRequestError.NameResolutionError or HttpRequestError.ConnectionError;

    // Names and hashes become names of files here.
    private static IReadOnlyList<RepositoryFile> List(
        HubClient client, HubReference reference, string commit, CancellationToken cancellation)
    {
        var files = RepositoryListing.Ask(client, reference.Id, commit, cancellation);
        return files.FirstOrDefault(f => !f.IsSafe) is not { } file ? files : throw new HubException(
            MergeError.HubRefused, $"'{reference.Id}' has a file '{file.Path}', which cannot be kept under that name.", reference.Id,
            "Ask the repository's owner to rename it.");
    }
}
