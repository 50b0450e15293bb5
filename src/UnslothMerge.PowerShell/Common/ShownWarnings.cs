using System.Management.Automation.Runspaces;
using System.Runtime.CompilerServices;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The warnings that a session has shown since its user typed the last command: a loop shows each of them once.</summary>
internal sealed class ShownWarnings
{
    private static readonly ConditionalWeakTable<Runspace, ShownWarnings> Sessions = [];
    private readonly HashSet<string> _shown = new(StringComparer.Ordinal);
    private long _command = -1;

    /// <summary>True the first time that a command line of this session has something to say.</summary>
    public static bool IsNew(long command, string what)
    {
        var session = Sessions.GetOrCreateValue(Runspace.DefaultRunspace);
        if (session._command != command)
        {
            session._shown.Clear();
            session._command = command;
        }

        return session._shown.Add(what);
    }
}
