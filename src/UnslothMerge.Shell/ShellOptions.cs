using Microsoft.PowerShell;

namespace UnslothMerge.Shell;

/// <summary>The command line, understood.</summary>
internal sealed record ShellOptions
{
    public ShellMode Mode { get; init; }

    /// <summary>The text of -Command or the path of -File.</summary>
    public string Text { get; init; } = "";

    /// <summary>What follows the script of -File.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    public bool NoProfile { get; init; }

    public bool NonInteractive { get; init; }

    public bool NoLogo { get; init; }

    public bool NoExit { get; init; }

    public string? WorkingDirectory { get; init; }

    /// <summary>Windows only; elsewhere every script may run.</summary>
    public ExecutionPolicy? ExecutionPolicy { get; init; }
}
