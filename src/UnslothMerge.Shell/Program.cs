using System.Management.Automation;
using UnslothMerge.Shell.Host;

namespace UnslothMerge.Shell;

/// <summary>The executable: reads the command line, runs what it asks for, and turns the outcome into an exit code.</summary>
internal static class Program
{
    // What pwsh returns for a command line that makes no sense (EX_USAGE).
    private const int Misused = 64;

    public static int Main(string[] arguments)
    {
        ShellOptions options;
        try
        {
            options = CommandLine.Parse(arguments);
            if (options.WorkingDirectory is { } folder)
            {
                Directory.SetCurrentDirectory(folder);
            }

            if (options.Mode == ShellMode.File && !File.Exists(options.Text))
            {
                throw new ArgumentException($"The script '{options.Text}' does not exist.");
            }
        }
        catch (Exception e) when (e is ArgumentException or FormatException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"unslothmerge: {e.Message}");
            return Misused;
        }

        switch (options.Mode)
        {
            case ShellMode.Help:
                Console.Out.WriteLine(CommandLine.Help);
                return 0;
            case ShellMode.Version:
                Console.Out.WriteLine(Version);
                return 0;
            default:
                return Run(options);
        }
    }

    private static string Version =>
        $"UnslothMerge {typeof(Program).Assembly.GetName().Version?.ToString(3)} (PowerShell {PSVersionInfo.PSVersion})";

    private static int Run(ShellOptions options)
    {
        using var interruption = new Interruption();
        var host = new ShellHost(interactive: !options.NonInteractive);
        using var session = new ShellSession(host, ShellRunspace.CreateBare(host, options.ExecutionPolicy), interruption);
        Prepare(session, options);

        var succeeded = session.ExitCode is null && RunWork(session, options);
        return session.ExitCode ?? (succeeded ? 0 : 1);
    }

    private static void Prepare(ShellSession session, ShellOptions options)
    {
        try
        {
            session.ImportModule();
        }
        catch (Exception e) when (e is RuntimeException or IOException)
        {
            // A shell without the module can still say what is wrong with it.
            session.Host.UI.WriteWarningLine($"The module UnslothMerge could not be imported: {e.Message}");
        }

        session.SetVariable("PROFILE", Profile.FilePath);
        if (!options.NoProfile && File.Exists(Profile.FilePath))
        {
            session.RunText(". $PROFILE");
        }
    }

    private static bool RunWork(ShellSession session, ShellOptions options)
    {
        var succeeded = options.Mode switch
        {
            ShellMode.Command => session.RunText(options.Text, input: StandardInput.For(options.Text)),
            ShellMode.File => session.RunFile(Path.GetFullPath(options.Text), options.Arguments),
            ShellMode.StandardInput => session.RunText(Console.In.ReadToEnd()),
            _ when Console.IsInputRedirected || options.NonInteractive => session.RunText(Console.In.ReadToEnd()),
            _ => true,
        };

        var prompts = options.NoExit || options.Mode == ShellMode.Interactive;
        if (prompts && session.ExitCode is null && !Console.IsInputRedirected && !options.NonInteractive)
        {
            if (!options.NoLogo && options.Mode == ShellMode.Interactive)
            {
                session.Host.UI.WriteLine(Version);
            }

            new InteractivePrompt(session).Run();
            return true;
        }

        return succeeded;
    }
}
