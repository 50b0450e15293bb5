using System.Net;
using System.Security;
using UnslothMerge.Hub;
using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell.Common;

/// <summary>A command's publication: planned before anything is written, run at the end. What the Hub says becomes verbose output and
/// warnings, on the pipeline's thread.</summary>
internal sealed class HubSession : IDisposable
{
    private readonly HubClient _client;
    private readonly Cmdlet _command;
    private readonly Publisher _publisher;
    private PublishPlan? _plan;

    public HubSession(Cmdlet command, SecureString? token, PublishTarget target)
    {
        _command = command;
        _client = new HubClient(HubSettings.Read(),
            token is null ? null : new HubToken(new NetworkCredential("", token).Password, "-Token"));
        _publisher = new Publisher(_client, target);
    }

    /// <summary>Where a model goes, as the parameters say. The repository is a name, or an address copied from a browser.</summary>
    public static PublishTarget Target(
        string repository, string parameter, string? revision, bool createPullRequest, bool isPrivate, string? message, string? description)
    {
        var reference = HubReference.Parse(repository, HubSettings.Read().Endpoint) is { Folder: null } found && HubName.IsOne(found.Id)
            ? found
            : throw new MergeException(MergeError.InvalidArgument, $"'{repository}' is no name of a repository on the Hub.", parameter,
                "Write it as org/name: letters, digits, '-', '_' and '.', at most 96 on each side.");
        return new PublishTarget(reference.Id)
        {
            Revision = revision ?? reference.Revision ?? "main",
            CreatePullRequest = createPullRequest,
            Private = isPrivate,
            Message = message,
            Description = description,
        };
    }

    /// <summary>Finds what the Hub would refuse. The names are of all files, and of some the content is known.</summary>
    public void Plan(IReadOnlyCollection<string> names, IReadOnlyCollection<UploadFile> known, string? source, CancellationToken stop)
    {
        try
        {
            _plan = _publisher.Plan(names, known, source, stop);
        }
        finally
        {
            ShowNotices();
        }

        foreach (var warning in _plan.Warnings)
        {
            _command.WriteWarning(warning);
        }
    }

    /// <summary>Describes the publication in one line.</summary>
    public string Summary(int files, long bytes)
    {
        var target = _plan!.Target;
        var made = _plan.State.Commit is null ? $", a new {(target.Private ? "private" : "public")} repository"
            : !_plan.State.HasBranch ? ", a new branch" : target.CreatePullRequest ? ", as a pull request" : "";
        return $"Publish {Amount.Text(files, "file")}, {ByteSize.Text(bytes)}, to '{target}'{made} in one commit";
    }

    /// <summary>The files that are deleted there, one a line.</summary>
    public string Deleted() => string.Concat(_plan!.Deleted.Select(d => $"\n  deletes there, as the new model replaces it: {d}"));

    /// <summary>Publishes, with progress.</summary>
    public PublishedModel Publish(IReadOnlyList<UploadFile> files, bool isAdapter, CancellationToken stop)
    {
        var clock = Stopwatch.StartNew();
        var summary = isAdapter ? "Upload adapter" : Publisher.ModelSummary;
        return new PublishedModel(
            Run((publisher, plan, progress) => publisher.Run(plan, files, summary, progress, stop)), clock.Elapsed);
    }

    /// <summary>Does something of the publication, with progress.</summary>
    public T Run<T>(Func<Publisher, PublishPlan, IProgress<UploadProgress>, T> work)
    {
        var progress = new UploadProgressRecord(_client.Settings.ShowsProgress ? _command.WriteProgress : _ => { },
            $"Publishing {_plan!.Target}", ShowNotices, TimeProvider.System);
        try
        {
            return work(_publisher, _plan!, progress);
        }
        finally
        {
            ShowNotices();
            progress.Complete();
        }
    }

    public void Dispose() => _client.Dispose();

    private void ShowNotices()
    {
        foreach (var notice in _client.TakeNotices())
        {
            if (notice.IsWarning)
            {
                _command.WriteWarning(notice.Text);
            }
            else
            {
                _command.WriteVerbose(notice.Text);
            }
        }
    }
}
