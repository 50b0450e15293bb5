using System.Management.Automation;
using System.Management.Automation.Host;
using System.Security;
using UnslothMerge.Shell.Terminal;

namespace UnslothMerge.Shell.Host;

/// <summary>
/// Writes to the terminal. Standard output gets what the pipeline puts out and Write-Host; errors, warnings,
/// verbose and debug messages and progress get standard error, so that redirected output holds results only.
/// </summary>
internal sealed partial class ShellUserInterface : PSHostUserInterface
{
    private readonly bool _interactive;
    private readonly ShellRawUserInterface _raw = new();

    public ShellUserInterface(bool interactive)
    {
        _interactive = interactive;
        Progress = new ProgressLine(TerminalStream.Error, () => _raw.WindowSize.Width);
        if (Environment.GetEnvironmentVariable("NO_COLOR") is not null || Environment.GetEnvironmentVariable("TERM") == "dumb")
        {
            PSStyle.Instance.OutputRendering = OutputRendering.PlainText;
        }
    }

    public override PSHostRawUserInterface RawUI => _raw;

    public override bool SupportsVirtualTerminal => TerminalStream.Output.Escapes || TerminalStream.Error.Escapes;

    /// <summary>The line of progress, to be erased before anything else appears.</summary>
    public ProgressLine Progress { get; }

    /// <summary>Where output goes.</summary>
    private TerminalStream Output { get; set; } = TerminalStream.Output;

    private static PSStyle Style => PSStyle.Instance;

    public override void Write(string value) => Write(Output, value);

    public override void Write(ConsoleColor foregroundColor, ConsoleColor backgroundColor, string value) =>
        Write(Output, Paint(foregroundColor, backgroundColor, value));

    public override void WriteLine(string value) => WriteLine(Output, value);

    public override void WriteLine(ConsoleColor foregroundColor, ConsoleColor backgroundColor, string value) =>
        WriteLine(Output, Paint(foregroundColor, backgroundColor, value));

    // Errors arrive formatted and coloured by their view.
    public override void WriteErrorLine(string value) => WriteLine(TerminalStream.Error, value);

    public override void WriteDebugLine(string message) => WriteMessage(Style.Formatting.Debug, "DEBUG", message);

    public override void WriteVerboseLine(string message) => WriteMessage(Style.Formatting.Verbose, "VERBOSE", message);

    public override void WriteWarningLine(string message) => WriteMessage(Style.Formatting.Warning, "WARNING", message);

    public override void WriteProgress(long sourceId, ProgressRecord record) => Progress.Show(sourceId, record);

    public override string ReadLine()
    {
        if (!_interactive)
        {
            throw NotInteractive("read input");
        }

        Progress.Erase();
        return Console.ReadLine() ?? "";
    }

    public override SecureString ReadLineAsSecureString()
    {
        RequirePerson("read a secret");
        Progress.Erase();
        return SecretReader.Read();
    }

    /// <summary>Sends output to standard error until the result is disposed: errors that are shown as objects.</summary>
    public IDisposable DivertToErrors()
    {
        Output = TerminalStream.Error;
        return new Diversion(this);
    }

    private static string Paint(ConsoleColor foreground, ConsoleColor background, string value)
    {
        // What the engine passes for "unchanged" is what RawUI reports, which on Unix is a guess: leave those alone.
        var colors = (foreground == ConsoleColor.Gray ? "" : Style.Foreground.FromConsoleColor(foreground))
            + (background == ConsoleColor.Black ? "" : Style.Background.FromConsoleColor(background));
        return colors.Length == 0 ? value : colors + value + Style.Reset;
    }

    private void WriteMessage(string color, string prefix, string message) =>
        WriteLine(TerminalStream.Error, $"{color}{prefix}: {message}{Style.Reset}");

    private void Write(TerminalStream stream, string value)
    {
        Progress.Erase();
        stream.Write(value);
    }

    private void WriteLine(TerminalStream stream, string value)
    {
        Progress.Erase();
        stream.WriteLine(value);
    }

    private sealed class Diversion(ShellUserInterface owner) : IDisposable
    {
        public void Dispose() => owner.Output = TerminalStream.Output;
    }
}
