using UnslothMerge.Adapters;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>What a model of the Hub is wanted for, which decides which files are.</summary>
internal enum HubUse
{
    /// <summary>The base of a merge: its weights may come later.</summary>
    Base,

    /// <summary>An adapter.</summary>
    Adapter,

    /// <summary>A tokenizer or processor.</summary>
    Tokenizer,

    /// <summary>Every file.</summary>
    Whole,
}

/// <summary>Some files that are not in the cache, and where they come from.</summary>
/// <param name="Now">Those that are needed at once.</param>
/// <param name="Later">Those that a save will read.</param>
internal sealed record MissingFiles(HubModel Model, IReadOnlyList<RepositoryFile> Now, IReadOnlyList<RepositoryFile> Later);

/// <summary>A model of the Hub in a directory, but for the weights that come later.</summary>
internal sealed record FetchedModel(string Directory, RemoteFiles Remote)
{
    /// <summary>A directory of this machine.</summary>
    public static FetchedModel Local(string directory) => new(directory, RemoteFiles.None);
}

/// <summary>Brings what a merge needs of a model into the cache, and nothing else of it.</summary>
internal static class HubFetch
{
    private const int Connections = 8;

    /// <summary>Chooses the files, asks whether those that are missing may be downloaded, and does so; null if they may not.</summary>
    public static FetchedModel? Open(
        HubModel model, HubUse use, Func<MissingFiles, bool> mayDownload, Action<DownloadProgress>? progress,
        CancellationToken cancellation)
    {
        // Without a listing, what is in the cache is all that there is.
        if (model.All is null)
        {
            return new FetchedModel(model.Directory, RemoteFiles.None);
        }

        var wanted = Wanted(model, use);
        var missing = wanted with { Now = [.. wanted.Now.Where(f => !model.Has(f))], Later = [.. wanted.Later.Where(f => !model.Has(f))] };
        if (model.Streams && use == HubUse.Base)
        {
            RequireRanges(model, missing.Now.Where(f => TrainedFiles.HoldsTensors(model.RelativePath(f))));
        }

        if (model.Client.Settings.Offline)
        {
            RequireCached(missing);
        }
        else if (missing.Now.Count + missing.Later.Count > 0 && !mayDownload(missing))
        {
            return null;
        }

        model.Remember(ModelFiles.AskedFor);
        Download(model, wanted.Now, progress, cancellation);
        if (use != HubUse.Base)
        {
            return new FetchedModel(model.Directory, RemoteFiles.None);
        }

        Download(model, Modules(model), progress, cancellation);
        var weights = Weights(model);
        if (model.Streams)
        {
            RequireRanges(model, weights.Where(f => !model.Has(f)));
        }

        Download(model, [.. weights.Where(f => model.Has(f) || !CanWait(f))], progress, cancellation);
        HubFile[] remote = [.. weights.Where(f => !model.Has(f)).Select(f => new HubFile(model, f))];
        Workers.ForEach("fetch", Connections, remote, (f, _) => f.Prefetch(), () => { }, cancellation);
        return new FetchedModel(model.Directory,
            new RemoteFiles(remote.ToDictionary(f => model.RelativePath(f.File), f => (RemoteFile)f)));
    }

    /// <summary>The files that a use needs, as far as names say it: those of the weights that an index lists are all that may be.</summary>
    public static MissingFiles Wanted(HubModel model, HubUse use)
    {
        var names = model.Files.ToDictionary(model.RelativePath, StringComparer.Ordinal);
        if (use != HubUse.Base)
        {
            var chosen = use switch
            {
                HubUse.Adapter => AdapterFiles.Choose(Adapter(model, names.Keys)),
                HubUse.Tokenizer => names.Keys.Where(ModelFiles.IsOfTokenizer),
                _ => names.Keys,
            };
            return new MissingFiles(model, [.. chosen.Select(n => names[n])], []);
        }

        var weights = WeightFiles.Choose(model.ToString(), [.. names.Keys.Where(IsAtTop)]);
        var now = names.Keys.Where(n => ModelFiles.IsRead(n) || n == weights?.Index).Select(n => names[n]).ToList();
        var shards = weights is null ? []
            : weights.Index is { } index ? names.Keys.Where(n => IsAtTop(n) && IsShardOf(n, index))
            : weights.Files.Where(names.ContainsKey);
        var later = shards.Select(n => names[n]).ToList();
        return new MissingFiles(model, [.. now, .. later.Where(f => !CanWait(f))], [.. later.Where(CanWait)]);
    }

    /// <summary>The files that a merge needs of a repository, which is an adapter or a base.</summary>
    public static IEnumerable<RepositoryFile> NeededFiles(HubModel model)
    {
        var isAdapter = model.FileAt(AdapterDirectory.ConfigName) is not null && model.FileAt("config.json") is null;
        var wanted = Wanted(model, isAdapter ? HubUse.Adapter : HubUse.Base);
        return wanted.Now.Concat(wanted.Later);
    }

    private static bool CanWait(RepositoryFile file) => file.Path.EndsWith(".safetensors", StringComparison.Ordinal);

    private static void RequireRanges(HubModel model, IEnumerable<RepositoryFile> weights)
    {
        if (weights.FirstOrDefault(f => !CanWait(f)) is { } file)
        {
            throw new MergeException(
                MergeError.InvalidOption, $"'{file.Path}' of '{model.Reference}' cannot be read from the Hub by ranges.", "Stream",
                "Only safetensors can. Leave -Stream out.");
        }
    }

    private static bool IsAtTop(string name) => !name.Contains('/', StringComparison.Ordinal);

    // model.safetensors.index.fp16.json lists model.fp16-00001-of-00002.safetensors; an index may use any names, which it says itself.
    private static bool IsShardOf(string name, string index)
    {
        var parts = index.Split('.');
        return name.StartsWith(parts[0], StringComparison.Ordinal) && name.EndsWith("." + parts[1], StringComparison.Ordinal)
            && name.Contains("-of-", StringComparison.Ordinal);
    }

    private static List<RepositoryFile> Weights(HubModel model)
    {
        var choice = WeightFiles.Choose(model.ToString(), [.. model.Files.Select(model.RelativePath).Where(IsAtTop)]);
        var names = choice?.Index is { } index
            ? ShardIndex.Read(Path.Combine(model.Directory, index)).Values.Distinct() : choice?.Files ?? [];

        // A missing shard is reported where the model is opened.
        return [.. names.Select(model.FileAt).OfType<RepositoryFile>()];
    }

    private static IReadOnlyList<RepositoryFile> Modules(HubModel model)
    {
        string[] patterns = [.. ModelFiles.ModuleFolders(model.Directory)];
        return patterns.Length == 0 ? [] : [.. model.Files.Where(f => ModelFiles.Matches(model.RelativePath(f), patterns))];
    }

    private static IReadOnlyCollection<string> Adapter(HubModel model, IReadOnlyCollection<string> names)
    {
        var config = AdapterDirectory.ConfigName;
        var below = names.Where(n => n.EndsWith("/" + config, StringComparison.Ordinal)).Select(n => n[..^(config.Length + 1)]).ToList();
        return names.Contains(config) || below.Count == 0 ? names : throw new MergeException(
            MergeError.InvalidAdapter,
            $"'{model.Reference}' is not an adapter: it has no {config}. There {(below.Count == 1 ? "is an adapter" : "are adapters")} "
            + $"below it: {string.Join(", ", below)}.",
            model.Reference.Id, $"Give the folder too: {model.Reference with { Folder = Below(model.Reference.Folder, below[^1]) }}.");
    }

    private static string Below(string? folder, string name) => folder is null ? name : $"{folder}/{name}";

    private static void Download(
        HubModel model, IReadOnlyList<RepositoryFile> files, Action<DownloadProgress>? progress, CancellationToken cancellation)
    {
        // Without the Hub, files that a merge can do without may be missing.
        model.Download(model.Client.Settings.Offline ? [.. files.Where(model.Has)] : files, progress, cancellation);
    }

    private static void RequireCached(MissingFiles missing)
    {
        var model = missing.Model;
        var needed = missing.Now.Where(IsNeeded).Concat(missing.Later).ToList();
        if (needed.Count > 0)
        {
            throw new HubException(
                MergeError.HubUnavailable,
                $"'{model.Reference}' is incomplete in the cache: {string.Join(", ", needed.Take(3).Select(f => f.Path))}"
                + $"{(needed.Count > 3 ? ", …" : "")} ({ByteSize.Text(needed.Sum(f => f.Size))}) are missing, and the Hub "
                + "may not be asked.",
                model.Reference.Id, "Remove HF_HUB_OFFLINE or -Offline to download them.") { Details = [.. needed.Select(f => f.Path)] };
        }

        if (missing.Now.Count > 0)
        {
            model.Client.Say(
                $"Not in the cache, and left out: {string.Join(", ", missing.Now.Select(f => f.Path))} of '{model.Reference}'.",
                isWarning: true);
        }

        bool IsNeeded(RepositoryFile file) => model.RelativePath(file) is var name && (name is "config.json" or AdapterDirectory.ConfigName
            || TrainedFiles.HoldsTensors(name) || name.EndsWith(".index.json", StringComparison.Ordinal));
    }
}
