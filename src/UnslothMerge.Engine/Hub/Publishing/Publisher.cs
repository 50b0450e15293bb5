using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Publishing;

/// <summary>Publishes a model as one commit: first everything is sent, then one commit makes it visible.</summary>
internal sealed class Publisher
{
    // Enough for a fast line; each holds a buffer of a mebibyte.
    private const int Threads = 8;

    /// <summary>The first line of a model's commit, unless the user gives one.</summary>
    public const string ModelSummary = "Upload merged model";

    private readonly HubClient _client;
    private readonly PublishTarget _target;
    private readonly RemoteRepository _remote;
    private readonly UploadJournal _journal;

    /// <summary>A publisher to a target.</summary>
    public Publisher(HubClient client, PublishTarget target, IDisk? disk = null)
    {
        _client = client;
        _target = target;
        _remote = new RemoteRepository(client, target);
        _journal = new UploadJournal(client, target.Repository, disk ?? SystemDisk.Instance);
    }

    /// <summary>Tells the user of something.</summary>
    public void Warn(string text) => _client.Say(text, isWarning: true);

    /// <summary>The address that a file has, or will have, at a revision.</summary>
    public string AddressOf(string file, string revision) =>
        $"{_client.Settings.Endpoint.ToString().TrimEnd('/')}/{_target.Repository}/resolve/{revision}/{file}";

    /// <summary>Looks at the target and finds what the Hub would refuse: rights, names, the card. Nothing is changed. The names are of all
    /// files; those that are known already are given, too.</summary>
    public PublishPlan Plan(IReadOnlyCollection<string> names, IReadOnlyCollection<UploadFile> known, string? source,
        CancellationToken cancellation)
    {
        if (!_client.HasToken)
        {
            throw new HubException(MergeError.HubAccessDenied, $"Publishing to '{_target}' needs a token, and there is none.",
                _target.Repository, "Log in with 'hf auth login', set HF_TOKEN, or give -Token.");
        }

        if (known.FirstOrDefault(f => f.Name == CardText.FileName) is { } card)
        {
            _remote.Validate(Encoding.UTF8.GetString(card.ReadAll()), cancellation);
        }

        var state = _remote.Look(cancellation);
        if (state.Commit is not null)
        {
            if (_target.Private && !state.IsPrivate)
            {
                throw new HubException(MergeError.HubRefused, $"'{_target.Repository}' is public, and -Private was given.",
                    _target.Repository, "Make it private in its settings on the Hub, choose another repository, or leave -Private out.");
            }

            // Who may not write is told so here.
            _remote.Preupload(known.Take(1), state.HasBranch, cancellation);
        }

        return new PublishPlan(_target, state, PublishPlan.Stale(state.Files.Keys, names),
            [.. PublishPlan.Leftovers(state.Files.Keys, names)])
        {
            Source = HubName.IsOne(source) && source != _target.Repository ? source : null,
        };
    }

    /// <summary>Sends files and commits. Progress is reported on this thread.</summary>
    public PublishResult Run(PublishPlan plan, IReadOnlyList<UploadFile> files, string summary, IProgress<UploadProgress>? progress,
        CancellationToken cancellation) => Finish(Begin(plan, cancellation), plan, files, summary, progress, cancellation);

    /// <summary>Sends what is left of a publication, and commits.</summary>
    public PublishResult Finish(Publication publication, PublishPlan plan, IReadOnlyList<UploadFile> files, string summary,
        IProgress<UploadProgress>? progress, CancellationToken cancellation)
    {
        var modes = _remote.Preupload(files, branchExists: true, cancellation);
        var ignored = files.Where(f => modes.GetValueOrDefault(f.Name)?.IsIgnored == true).ToList();
        if (ignored.Count > 0)
        {
            _client.Say($"The repository's .gitignore leaves out {string.Join(", ", ignored.Select(f => f.Name))}.", isWarning: true);
        }

        List<UploadFile> kept = [.. files.Except(ignored)];
        var large = kept.Where(f => f.Size > 0 && modes.GetValueOrDefault(f.Name)?.IsLfs == true).ToList();
        Hash(large, progress, cancellation);
        Send(publication, plan, [.. large.Where(f => modes[f.Name].Oid != f.Sha256)], progress, cancellation);
        foreach (var file in kept)
        {
            file.RequireUnchanged();
            publication.Add(file, large.Contains(file), modes.GetValueOrDefault(file.Name)?.Oid);
        }

        return publication.Commit(plan, summary, cancellation);
    }

    /// <summary>How a shard goes to the Hub. Whatever its size, it is a large file to every repository.</summary>
    public Preupload ModeOf(UploadFile shard, CancellationToken cancellation) =>
        _remote.Preupload([shard], branchExists: true, cancellation).GetValueOrDefault(shard.Name) is { IsIgnored: false, IsLfs: true } mode
            ? mode
            : throw new HubException(MergeError.HubRefused, $"'{_target.Repository}' does not take '{shard.Name}' as a large file.",
                _target.Repository, "Correct its .gitattributes and .gitignore: *.safetensors belongs to LFS.");

    /// <summary>Adds files to those that are sent, unless the Hub has them or can copy them; true if one is sent.</summary>
    public bool Announce(Publication publication, PublishPlan plan, IReadOnlyList<UploadFile> files, Action<UploadFile>? arrived,
        CancellationToken cancellation)
    {
        var missing = Missing(publication, plan, files, cancellation);
        foreach (var (file, ticket) in missing)
        {
            publication.Sent.Add(file.Sha256!);
            publication.Uploader.Add(file, ticket, arrived);
        }

        return missing.Count > 0;
    }

    /// <summary>Finds the files that the Hub neither has nor can copy, one of each content, and where they go.</summary>
    public IReadOnlyList<(UploadFile File, UploadTicket Ticket)> Missing(
        Publication publication, PublishPlan plan, IReadOnlyList<UploadFile> files, CancellationToken cancellation)
    {
        var tickets = publication.Uploader.Ask(files, cancellation);
        var missing = files.Where(f => tickets.ContainsKey(f.Sha256!) && !publication.Sent.Contains(f.Sha256!)).DistinctBy(f => f.Sha256)
            .ToList();
        publication.Copied.UnionWith(CopyOnServer(plan, missing, cancellation));
        return [.. missing.Where(f => !publication.Copied.Contains(f.Sha256!)).Select(f => (f, tickets[f.Sha256!]))];
    }

    /// <summary>Makes the repository and the branch if they are to be made.</summary>
    public Publication Begin(PublishPlan plan, CancellationToken cancellation)
    {
        var (parent, state) = (plan.State.Commit, plan.State);
        if (parent is null)
        {
            _remote.Create(cancellation);
            parent = _remote.Head("main", cancellation);
            state = state with { HasBranch = _target.Revision == "main" };
        }

        if (!state.HasBranch)
        {
            _remote.CreateBranch(parent!, cancellation);
        }

        var uploader = new LfsUploader(_client, _target.Repository, _target.CreatePullRequest ? null : _target.Revision, _journal);
        return new Publication(_client, _target, new CommitRequest(_client, _remote, _target, parent!, _journal), uploader, parent!);
    }

    private static void Hash(List<UploadFile> files, IProgress<UploadProgress>? progress, CancellationToken cancellation)
    {
        var (done, total) = (0L, files.Sum(f => f.Size));
        Workers.ForEach("hash", Environment.ProcessorCount, files, (f, stop) => f.Hash(bytes => Interlocked.Add(ref done, bytes), stop),
            () => progress?.Report(new UploadProgress("Hashing", Interlocked.Read(ref done), total)), cancellation);
    }

    private void Send(Publication publication, PublishPlan plan, List<UploadFile> files, IProgress<UploadProgress>? progress,
        CancellationToken cancellation)
    {
        var uploader = publication.Uploader;
        var any = Announce(publication, plan, files, null, cancellation);
        uploader.CompleteAdding();
        Workers.Run("upload", any ? Threads : 0, (_, stop) => uploader.Work(stop),
            () => progress?.Report(new UploadProgress("Sending", uploader.Done, uploader.Total)), cancellation);
    }

    // Files that the base has need not be sent: the Hub copies them. Where it does not, they are.
    private HashSet<string> CopyOnServer(PublishPlan plan, List<UploadFile> files, CancellationToken cancellation)
    {
        if (plan.Source is not { } source || files.Count == 0)
        {
            return [];
        }

        try
        {
            var there = RepositoryListing.Ask(_client, source, "main", cancellation)
                .Where(f => f.XetHash is not null && f.Sha256 is not null).DistinctBy(f => f.Sha256).ToDictionary(f => f.Sha256!);
            var both = files.Where(f => there.ContainsKey(f.Sha256!)).Select(f => there[f.Sha256!] with { Path = f.Name }).ToList();
            return both.Count == 0 ? [] : _remote.Duplicate(source, both, cancellation);
        }
        catch (HubException e) when (e.Error is not MergeError.HubUnavailable)
        {
            _client.Say($"Nothing is copied from '{source}' on the Hub: {e.Message}");
            return [];
        }
    }
}
