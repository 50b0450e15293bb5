using System.Management.Automation;
using System.Management.Automation.Host;
using System.Management.Automation.Runspaces;
using Microsoft.PowerShell;
using UnslothMerge.Shell.Commands;

namespace UnslothMerge.Shell;

/// <summary>Makes runspaces in which the module is imported.</summary>
public static class ShellRunspace
{
    /// <summary>An open runspace with the module imported, at the process's current directory.</summary>
    /// <param name="host">The host that shows output and asks questions; without one, output goes nowhere.</param>
    /// <returns>The runspace, which the caller disposes.</returns>
    /// <exception cref="FileNotFoundException">There is no module to import.</exception>
    /// <exception cref="RuntimeException">The module could not be imported.</exception>
    public static Runspace Create(PSHost? host = null)
    {
        var runspace = CreateBare(host);
        try
        {
            ImportModule(runspace);
            return runspace;
        }
        catch
        {
            runspace.Dispose();
            throw;
        }
    }

    /// <summary>An open runspace without the module.</summary>
    /// <param name="host">The host that shows output and asks questions; without one, output goes nowhere.</param>
    /// <param name="executionPolicy">Which scripts may run on Windows; null for PowerShell's own default there.</param>
    /// <returns>The runspace, which the caller disposes.</returns>
    public static Runspace CreateBare(PSHost? host = null, ExecutionPolicy? executionPolicy = null)
    {
        // Importing a module makes System.Management.Automation report it to Microsoft, unless told not to.
        Environment.SetEnvironmentVariable("POWERSHELL_TELEMETRY_OPTOUT", "1");

        // CreateDefault2 has the core commands only; CreateDefault looks for assemblies that are not here.
        var state = InitialSessionState.CreateDefault2();
        HostCommands.AddTo(state);
        if (OperatingSystem.IsWindows())
        {
            // Without pwsh's configuration file Windows would run no script at all.
            state.ExecutionPolicy = executionPolicy ?? ExecutionPolicy.RemoteSigned;
        }

        var runspace = host is null ? RunspaceFactory.CreateRunspace(state) : RunspaceFactory.CreateRunspace(host, state);
        runspace.ThreadOptions = PSThreadOptions.UseCurrentThread;
        runspace.Open();
        return runspace;
    }

    /// <summary>Imports the module into an open runspace.</summary>
    /// <param name="runspace">An open runspace.</param>
    /// <exception cref="FileNotFoundException">There is no module to import.</exception>
    /// <exception cref="RuntimeException">The module could not be imported.</exception>
    public static void ImportModule(Runspace runspace)
    {
        ArgumentNullException.ThrowIfNull(runspace);
        var manifest = ModuleLocation.Find()
            ?? throw new FileNotFoundException(
                $"The module UnslothMerge was not found in or above '{AppContext.BaseDirectory}'. Set {ModuleLocation.Variable} to its folder.");

        using var import = System.Management.Automation.PowerShell.Create(runspace);
        import.AddCommand("Import-Module")
            .AddParameter("Name", WildcardPattern.Escape(manifest))
            .AddParameter("Global")
            .AddParameter("ErrorAction", ActionPreference.Stop);
        try
        {
            import.Invoke();
        }
        catch (ActionPreferenceStopException e)
        {
            // What went wrong, without the preamble that a preference made it stop.
            throw new RuntimeException(e.ErrorRecord.ToString(), e, e.ErrorRecord);
        }
    }
}
