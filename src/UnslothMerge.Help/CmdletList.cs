using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;

namespace UnslothMerge.Help;

/// <summary>The cmdlets of an assembly, as PowerShell sees them.</summary>
internal static class CmdletList
{
    public static IReadOnlyList<CmdletInfo> Of(Assembly assembly)
    {
        var state = InitialSessionState.Create();
        foreach (var type in assembly.GetExportedTypes())
        {
            if (type.GetCustomAttribute<CmdletAttribute>() is { } cmdlet)
            {
                state.Commands.Add(new SessionStateCmdletEntry($"{cmdlet.VerbName}-{cmdlet.NounName}", type, null));
            }
        }

        using var runspace = RunspaceFactory.CreateRunspace(state);
        runspace.Open();
        return [.. runspace.SessionStateProxy.InvokeCommand.GetCommands("*", CommandTypes.Cmdlet, nameIsPattern: true).Cast<CmdletInfo>()
            .OrderBy(c => c.Name, StringComparer.Ordinal)];
    }

    /// <summary>The parameter sets, first those that are typed without names.</summary>
    public static IEnumerable<CommandParameterSetInfo> SetsOf(CmdletInfo cmdlet) =>
        cmdlet.ParameterSets.OrderBy(s => s.Parameters.All(p => p.Position < 0));
}
