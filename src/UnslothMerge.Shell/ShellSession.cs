using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using UnslothMerge.Shell.Host;

namespace UnslothMerge.Shell;

/// <summary>Runs commands one after the other in one runspace and shows what they put out.</summary>
internal sealed class ShellSession : IDisposable
{
    private readonly Runspace _runspace;
    private int _depth;

    public ShellSession(ShellHost host, Runspace runspace, Interruption interruption)
    {
        Host = host;
        _runspace = runspace;
        Interruption = interruption;

        // For those who compile or complete between pipelines.
        Runspace.DefaultRunspace = runspace;
    }

    public ShellHost Host { get; }

    public Interruption Interruption { get; }

    /// <summary>What `exit` or a signal asked for; null as long as nothing did.</summary>
    public int? ExitCode => Host.ExitCode ?? Interruption.ExitCode;

    /// <summary>Imports the module.</summary>
    public void ImportModule() => ShellRunspace.ImportModule(_runspace);

    /// <summary>Sets a variable that scripts see.</summary>
    public void SetVariable(string name, object value) => _runspace.SessionStateProxy.SetVariable(name, value);

    /// <summary>Runs text as if it had been typed. True if its last command succeeded.</summary>
    public bool RunText(string text, IEnumerable? input = null) =>
        Run(shell => shell.AddScript(text, useLocalScope: false), input, out _);

    /// <summary>Runs a script file. True unless it threw.</summary>
    public bool RunFile(string path, IEnumerable<string> arguments)
    {
        ScriptExit.EndShell(_runspace);

        // Scripts that are found by their #! line need no extension; the engine knows files by it.
        var script = path.EndsWith(".ps1", StringComparison.OrdinalIgnoreCase)
            ? new Command(path, isScript: false, useLocalScope: false)
            : new Command(File.ReadAllText(path), isScript: true, useLocalScope: false);
        ScriptArguments.AddTo(script.Parameters, arguments);
        Run(shell => shell.Commands.AddCommand(script), input: null, out var completed);
        return completed;
    }

    /// <summary>Runs a command and gives back its output instead of showing it.</summary>
    public IReadOnlyList<PSObject> Invoke(Action<System.Management.Automation.PowerShell> compose)
    {
        using var shell = NewPipeline();
        compose(shell);
        return shell.Invoke();
    }

    /// <summary>A pipeline of this runspace, nested while another one is running.</summary>
    public System.Management.Automation.PowerShell NewPipeline()
    {
        if (_depth > 0)
        {
            return System.Management.Automation.PowerShell.Create(RunspaceMode.CurrentRunspace);
        }

        return System.Management.Automation.PowerShell.Create(_runspace);
    }

    /// <summary>Shows an error as PowerShell shows its own.</summary>
    public void Report(Exception exception)
    {
        var record = exception is IContainsErrorRecord container
            ? container.ErrorRecord
            : new ErrorRecord(exception, "ShellFailed", ErrorCategory.NotSpecified, null);
        try
        {
            if (record is { CategoryInfo.Category: ErrorCategory.ParserError, InvocationInfo: null })
            {
                // The view has nothing to say about text that ends too early: there is no line to show.
                throw new RuntimeException(record.ToString());
            }

            using var shell = NewPipeline();
            shell.AddCommand("Out-Default").AddParameter("InputObject", record);
            using (Host.Terminal.DivertToErrors())
            {
                shell.Invoke();
            }
        }
        catch (RuntimeException)
        {
            var formatting = PSStyle.Instance.Formatting;
            Host.UI.WriteErrorLine($"{formatting.Error}{record.CategoryInfo.Category}: {record}{PSStyle.Instance.Reset}");
        }
    }

    public void Dispose() => _runspace.Dispose();

    private bool Run(Action<System.Management.Automation.PowerShell> compose, IEnumerable? input, out bool completed)
    {
        completed = false;
        using var shell = NewPipeline();
        compose(shell);
        shell.Commands.AddCommand(Output());
        if (!Interruption.TryEnter(shell))
        {
            return false;
        }

        _depth++;
        try
        {
            // What is not for the history does not change $? either.
            shell.Invoke(input, new PSInvocationSettings { AddToHistory = true });
            completed = shell.InvocationStateInfo.State == PSInvocationState.Completed;
            if (_depth > 1)
            {
                // Inside a running pipeline the runspace's variables cannot be asked for; only the outermost answer counts.
                return completed;
            }

            return completed && _runspace.SessionStateProxy.GetVariable("?") is not false;
        }
        catch (Exception e) when (e is PipelineStoppedException or InvalidPowerShellStateException)
        {
            // Stopped by a signal, perhaps before it had begun.
            return false;
        }
        catch (RuntimeException e)
        {
            Host.Terminal.Progress.Reset();
            Report(e);
            return false;
        }
        finally
        {
            _depth--;
            Interruption.Leave();
            Host.Terminal.Progress.Reset();
        }
    }

    // Errors go through Out-Default too, in their order among the output.
    private static Command Output() => new("Out-Default")
    {
        MergeUnclaimedPreviousCommandResults = PipelineResultTypes.Error | PipelineResultTypes.Output,
    };
}
