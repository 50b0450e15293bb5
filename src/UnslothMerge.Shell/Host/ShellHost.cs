using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;

namespace UnslothMerge.Shell.Host;

/// <summary>The host that PowerShell's engine talks to: who it is, how it exits, and its user interface.</summary>
internal sealed class ShellHost : PSHost
{
    private readonly ShellUserInterface _userInterface;

    public ShellHost(bool interactive) => _userInterface = new ShellUserInterface(interactive);

    public override string Name => "UnslothMerge";

    public override Version Version { get; } = typeof(ShellHost).Assembly.GetName().Version ?? new Version(0, 0);

    public override Guid InstanceId { get; } = Guid.NewGuid();

    public override CultureInfo CurrentCulture { get; } = CultureInfo.CurrentCulture;

    public override CultureInfo CurrentUICulture { get; } = CultureInfo.CurrentUICulture;

    public override PSHostUserInterface UI => _userInterface;

    /// <summary>What `exit` asked for; null as long as nothing did.</summary>
    public int? ExitCode { get; private set; }

    /// <summary>Runs a prompt inside the running pipeline until it is left; set by the interactive prompt.</summary>
    public Action? NestedPrompt { get; set; }

    /// <summary>The innermost prompt should end.</summary>
    public bool LeaveNestedPrompt { get; set; }

    public ShellUserInterface Terminal => _userInterface;

    public override void SetShouldExit(int exitCode) => ExitCode = exitCode;

    public override void EnterNestedPrompt()
    {
        if (NestedPrompt is null)
        {
            throw new PSNotSupportedException("A nested prompt needs an interactive session.");
        }

        NestedPrompt();
    }

    public override void ExitNestedPrompt() => LeaveNestedPrompt = true;

    // The child process writes to the terminal itself.
    public override void NotifyBeginApplication() => _userInterface.Progress.Erase();

    public override void NotifyEndApplication()
    {
    }
}
