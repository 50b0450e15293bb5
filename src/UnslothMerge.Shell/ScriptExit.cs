using System.Management.Automation.Runspaces;
using System.Reflection;

namespace UnslothMerge.Shell;

/// <summary>
/// Makes `exit n` in a script that is run by its path end the shell with n. Without it the engine only sets
/// $LASTEXITCODE there, as for a script called by another, and native commands set that too. The engine has the switch
/// for pwsh and keeps it to itself; should it go away, scripts that exit leave 0.
/// </summary>
internal static class ScriptExit
{
    public static void EndShell(Runspace runspace)
    {
        const BindingFlags Hidden = BindingFlags.Instance | BindingFlags.NonPublic;
        var context = runspace.GetType().GetProperty("ExecutionContext", Hidden)?.GetValue(runspace);
        context?.GetType().GetProperty("ScriptCommandProcessorShouldRethrowExit", Hidden)?.SetValue(context, true);
    }
}
