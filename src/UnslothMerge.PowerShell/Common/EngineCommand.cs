using Microsoft.PowerShell.Commands;
using UnslothMerge.Files;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The base of all commands: cancellation, errors, and PowerShell paths.</summary>
public abstract partial class EngineCommand : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private bool _failed;

    /// <summary>Cancelled when the user presses Ctrl+C.</summary>
    private protected CancellationToken Stop => _stop.Token;

    public void Dispose()
    {
        _stop.Dispose();
        GC.SuppressFinalize(this);
    }

    protected sealed override void BeginProcessing() => Run(Begin);

    protected sealed override void ProcessRecord() => Run(Process);

    protected sealed override void EndProcessing() => Run(End);

    protected override void StopProcessing() => _stop.Cancel();

    /// <summary>What is done before the first input.</summary>
    private protected virtual void Begin()
    {
    }

    /// <summary>What is done with each input.</summary>
    private protected virtual void Process()
    {
    }

    /// <summary>What is done after the last input.</summary>
    private protected virtual void End()
    {
    }

    /// <summary>Adds to the advice of an error what only the command knows.</summary>
    private protected virtual void Advise(MergeException error)
    {
    }

    /// <summary>Runs engine code; its errors end the command.</summary>
    private protected T Engine<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (OperationCanceledException)
        {
            throw new PipelineStoppedException();
        }
        catch (Exception e) when (Record(e) is { } record)
        {
            Fail(record);
            throw;
        }
    }

    /// <summary>Runs engine code that has no result; its errors end the command.</summary>
    private protected void Engine(Action work) => Engine(() =>
    {
        work();
        return true;
    });

    /// <summary>Runs engine code for one of several items; an error does not end the command.</summary>
    private protected bool TryEngine<T>(Func<T> work, out T result)
    {
        try
        {
            result = work();
            return true;
        }
        catch (OperationCanceledException)
        {
            throw new PipelineStoppedException();
        }
        catch (Exception e) when (Record(e) is { } record)
        {
            WriteError(record);
            result = default!;
            return false;
        }
    }

    /// <summary>Ends the command because of a bad argument.</summary>
    private protected void Refuse(string parameter, string message, string? advice = null) =>
        Engine(() => throw new MergeException(MergeError.InvalidArgument, message, parameter, advice));

    /// <summary>The path of something that may not exist yet.</summary>
    private protected string Unresolved(string path, string parameter) => Engine(() => FileSystemPath(path, parameter));

    /// <summary>Writes a file whole or not at all, and emits it as Get-Item does. One that is there is replaced.</summary>
    private protected void WriteFile(string file, Func<string> text)
    {
        Engine(() => ReplaceFile(file, text()));
        WriteObject(InvokeProvider.Item.Get([file], force: true, literalPath: true), enumerateCollection: true);
    }

    private static void ReplaceFile(string file, string content)
    {
        try
        {
            SystemDisk.Instance.ReplaceText(file, content, sync: false);
        }
        catch (IOException e)
        {
            throw new MergeException(
                MergeError.WriteFailed, $"'{file}' could not be written: {e.Message}", file,
                "Check that its disk has room and can be reached.", e);
        }
    }

    /// <summary>Refuses a place of a file where something is that may not be replaced.</summary>
    private protected void RequireFree(string file, bool force) => Engine(() =>
    {
        if (Directory.Exists(file))
        {
            throw new MergeException(MergeError.InvalidDestination, $"'{file}' is a directory.", file, "Give the name of a file.");
        }

        if (!Directory.Exists(Path.GetDirectoryName(file)))
        {
            throw new MergeException(
                MergeError.PathNotFound, $"The folder of '{file}' is not there.", file, "Make it first, or give another place.");
        }

        if (File.Exists(file) && !force)
        {
            throw new MergeException(
                MergeError.DestinationExists, $"The file '{file}' is there already.", file, "Use -Force to replace it.");
        }
    });

    /// <summary>Resolves a path, or a name of the Hub, to exactly one directory.</summary>
    private protected FetchedModel ResolveOne(string path, string parameter, HubUse use)
    {
        var found = ResolveSome([path], parameter, use);
        if (found.Count > 1)
        {
            Refuse(
                parameter,
                $"'{path}' matches {found.Count} paths ({string.Join(", ", found.Take(3).Select(f => f.Directory))}"
                + $"{(found.Count > 3 ? ", …" : "")}), but only one can be used.",
                $"Give -{parameter} without wildcards.");
        }

        return found[0];
    }

    /// <summary>Resolves several paths; each must match at least one, so that nothing is left out silently.</summary>
    private protected IReadOnlyList<FetchedModel> ResolveSome(
        IEnumerable<string> paths, string parameter, HubUse use, bool literal = false) => Engine(() =>
    {
        var all = new List<FetchedModel>();
        foreach (var path in paths)
        {
            var found = Resolve(path, parameter, use, literal);
            if (found.Count == 0)
            {
                throw new MergeException(
                    MergeError.PathNotFound, $"'{path}' matches nothing.", path, $"Check the path given to -{parameter}.");
            }

            all.AddRange(found);
        }

        return all;
    });

    /// <summary>Resolves a path: to itself if it exists, else to the matches of its wildcards, else as a name of the Hub.</summary>
    /// <remarks>To be called inside <see cref="Engine{T}"/> or <see cref="TryEngine"/>.</remarks>
    private protected IReadOnlyList<FetchedModel> Resolve(string path, string parameter, HubUse use, bool literal = false)
    {
        // An address is no path of any provider.
        var isAddress = path.Contains("://", StringComparison.Ordinal);
        var itself = isAddress ? path : FileSystemPath(path, parameter);
        if (literal || (!isAddress && Path.Exists(itself)))
        {
            return [FetchedModel.Local(itself)];
        }

        if (!WildcardPattern.ContainsWildcardCharacters(path))
        {
            return [FromHub(path, use) ?? (isAddress ? throw NoModel(path) : FetchedModel.Local(itself))];
        }

        // A pattern means directories; files only where it matches nothing else.
        var matches = SessionState.Path.GetResolvedProviderPathFromPSPath(path, out _);
        var directories = matches.Where(Directory.Exists).ToList();
        return [.. (directories.Count > 0 ? directories : [.. matches]).Order(StringComparer.Ordinal).Select(FetchedModel.Local)];
    }

    /// <summary>The error of an address that leads to no model.</summary>
    private protected static MergeException NoModel(string address) => new(
        MergeError.InvalidArgument, $"'{address}' is no address of a model on the Hub.", address,
        "Give the address of the model's page, its name, org/name, or a local directory.");

    private ErrorRecord? Record(Exception exception)
    {
        if (exception is MergeException error)
        {
            Advise(error);
        }

        return ErrorRecords.From(exception);
    }

    private void Run(Action step)
    {
        if (_failed)
        {
            return;
        }

        try
        {
            step();
        }
        catch (CommandFailedException)
        {
            _failed = true;
        }
    }

    // Ends the command by an error that try catches. PowerShell shows such an error whatever -ErrorAction says; where it says that nobody
    // wants to see it, the command ends without.
    private void Fail(ErrorRecord record)
    {
        if (MyInvocation.BoundParameters.TryGetValue("ErrorAction", out var action)
            && action is ActionPreference.SilentlyContinue or ActionPreference.Ignore)
        {
            WriteError(record);
            throw new CommandFailedException();
        }

        ThrowTerminatingError(record);
    }

    private string FileSystemPath(string path, string parameter)
    {
        if (string.IsNullOrWhiteSpace(path))
        {
            throw new MergeException(
                MergeError.InvalidArgument, $"-{parameter} is an empty path.", parameter, "Give a directory; a variable may be empty.");
        }

        var resolved = SessionState.Path.GetUnresolvedProviderPathFromPSPath(path, out var provider, out _);
        return provider.ImplementingType == typeof(FileSystemProvider)
            ? resolved
            : throw new MergeException(
                MergeError.InvalidArgument, $"'{path}' is a path of the provider {provider.Name}, not of the file system.", path,
                $"Give -{parameter} a directory.");
    }
}

/// <summary>The command has failed, and has written why.</summary>
internal sealed class CommandFailedException : RuntimeException;
