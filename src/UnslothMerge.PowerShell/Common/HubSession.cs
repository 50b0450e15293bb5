using System.Management.Automation.Language;
using System.Security;
using UnslothMerge.Hub;
using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell.Common;

/// <summary>A command's publication: planned before anything is written, run at the end. What the Hub says becomes verbose output and
/// warnings, on the pipeline's thread.</summary>
internal sealed class HubSession : IDisposable
{
    private readonly HubClient _client;
    private readonly EngineCommand _command;
    private readonly bool _hasOwnToken;
    private readonly Publisher _publisher;
    private PublishPlan? _plan;

    public HubSession(EngineCommand command, SecureString? token, PublishTarget target)
    {
        (_command, _hasOwnToken) = (command, token is not null);
        _client = new HubOptions { Token = token }.Open();
        _publisher = new Publisher(_client, target);
    }

    /// <summary>Where a model goes, as the parameters say. The repository is a name, or an address copied from a browser.</summary>
    public static PublishTarget Target(string repository, string parameter, IPublishing command)
    {
        var reference = HubReference.Parse(repository, HubSettings.Read().Endpoint) is { Folder: null } found && HubName.IsOne(found.Id)
            ? found
            : throw new MergeException(MergeError.InvalidArgument, $"'{repository}' is no name of a repository on the Hub.", parameter,
                "Write it as org/name: letters, digits, '-', '_' and '.', at most 96 on each side.");
        return new PublishTarget(reference.Id)
        {
            Revision = command.Revision ?? reference.Revision ?? "main",
            CreatePullRequest = command.CreatePullRequest,
            Private = command.Private,
            Message = command.CommitMessage,
            Description = command.CommitDescription,
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

    /// <summary>Publishes what the command has saved. If that fails, the model is there, and another command goes on.</summary>
    public PublishedModel PublishSaved(string directory, Func<IReadOnlyList<UploadFile>> files, bool isAdapter, CancellationToken stop)
    {
        try
        {
            return Publish(files(), isAdapter, stop);
        }
        catch (MergeException e)
        {
            e.AddAdvice(GoOn(directory));
            throw;
        }
        catch (OperationCanceledException)
        {
            // A command that was stopped may write nothing more to the pipeline, but to the screen.
            _command.Host.UI.WriteWarningLine(GoOn(directory));
            throw;
        }
    }

    /// <summary>The files of a directory as they are published, with warnings of what is changed in them.</summary>
    public List<UploadFile> Files(string directory, string? baseId, IEnumerable<string> inputs)
    {
        var warnings = new List<string>();
        var files = PublishedFiles.Open(directory, baseId, inputs, warnings);
        warnings.ForEach(_command.WriteWarning);
        return files;
    }

    /// <summary>Does something of the publication, with progress.</summary>
    public T Run<T>(Func<Publisher, PublishPlan, IProgress<UploadProgress>, T> work)
    {
        using var progress = new UploadProgressRecord(_client.Settings.ShowsProgress ? _command.WriteProgress : _ => { },
            $"Publishing {_plan!.Target}", ShowNotices, TimeProvider.System);
        try
        {
            return work(_publisher, _plan!, progress);
        }
        finally
        {
            ShowNotices();
        }
    }

    public void Dispose() => _client.Dispose();

    private string GoOn(string directory)
    {
        var target = _plan!.Target;
        return $"The model is saved. Go on without merging again: Publish-MergedModel {Quote(directory)} {target.Repository}"
            + (target.Private ? " -Private" : "") + (target.CreatePullRequest ? " -CreatePullRequest" : "")
            + Given("Revision", target.Revision == "main" ? null : target.Revision) + Given("CommitMessage", target.Message)
            + Given("CommitDescription", target.Description) + (_hasOwnToken ? " -Token (Read-Host -MaskInput)" : "");

        static string Given(string parameter, string? value) => value is null ? "" : $" -{parameter} {Quote(value)}";
        static string Quote(string text) => $"'{CodeGeneration.EscapeSingleQuotedStringContent(text)}'";
    }

    private void ShowNotices() => _command.WriteNotices(_client);
}
