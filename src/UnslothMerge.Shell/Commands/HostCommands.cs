using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;

namespace UnslothMerge.Shell.Commands;

/// <summary>
/// The few commands without which a script can say nothing and a person go nowhere. System.Management.Automation
/// comes without them, and without all others of the Microsoft.PowerShell.* modules, which this shell does not replace.
/// </summary>
internal static class HostCommands
{
    private static readonly Type[] Types =
    [
        typeof(GetLocationCommand),
        typeof(ReadHostCommand),
        typeof(SetLocationCommand),
        typeof(WriteDebugCommand),
        typeof(WriteErrorCommand),
        typeof(WriteHostCommand),
        typeof(WriteInformationCommand),
        typeof(WriteOutputCommand),
        typeof(WriteVerboseCommand),
        typeof(WriteWarningCommand),
    ];

    public static void AddTo(InitialSessionState state)
    {
        foreach (var type in Types)
        {
            var name = type.GetCustomAttribute<CmdletAttribute>()!;
            state.Commands.Add(new SessionStateCmdletEntry($"{name.VerbName}-{name.NounName}", type, helpFileName: null));
        }
    }
}
