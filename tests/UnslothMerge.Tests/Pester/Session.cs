using System.Diagnostics.CodeAnalysis;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Runtime.CompilerServices;
using Pipeline = System.Management.Automation.PowerShell;

namespace UnslothMerge.Tests.Pester;

/// <summary>What the commands of a test file share: where in the file's tree they are.</summary>
internal sealed class Session
{
    // Keyed by runspace, because a variable would be visible to the tests.
    private static readonly ConditionalWeakTable<Runspace, Session> Sessions = [];

    /// <summary>The block that Describe, It and the setups add to; null outside discovery.</summary>
    public Block? Discovering { get; set; }

    /// <summary>Whether an It (or what runs before and after each) is running.</summary>
    public bool InIt { get; set; }

    public Scope Scope { get; } = new();

    public static Session Current =>
        Runspace.DefaultRunspace is { } runspace && Sessions.TryGetValue(runspace, out var session)
            ? session
            : throw new InvalidOperationException("This command works only in a test file.");

    /// <summary>Gives a runspace the commands of this folder.</summary>
    public static Session Attach(Runspace runspace)
    {
        var session = new Session();
        Sessions.Add(runspace, session);
        using var import = Pipeline.Create(runspace);
        import.AddCommand("Import-Module")
            .AddParameter("Assembly", typeof(Session).Assembly)
            .AddParameter("DisableNameChecking")
            .AddParameter("ErrorAction", ActionPreference.Stop)
            .Invoke();
        return session;
    }

    /// <summary>The block being discovered; anywhere else <paramref name="command"/> would be lost, so it fails.</summary>
    public Block Discover(string command) => Discovering ?? throw new InvalidOperationException(
        $"{command} cannot be used here: tests are running. It belongs into the file or a Describe or Context.");

    /// <summary>Parameters would stay empty without a word.</summary>
    public static void RefuseParameters([NotNull] ScriptBlock? body, string command)
    {
        ArgumentNullException.ThrowIfNull(body);
        if (body.Ast is System.Management.Automation.Language.ScriptBlockAst { ParamBlock: not null })
        {
            throw new NotSupportedException($"{command} with a param() block is not supported: -ForEach sets variables.");
        }
    }
}
