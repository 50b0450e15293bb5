using System.Management.Automation.Host;

namespace UnslothMerge.Shell.Terminal;

/// <summary>Standard output or standard error, with what it can show.</summary>
internal sealed class TerminalStream
{
    private readonly Func<TextWriter> _writer;

    private TerminalStream(Func<TextWriter> writer, bool redirected)
    {
        _writer = writer;
        IsTerminal = !redirected;

        // On a dumb terminal escape sequences would be printed; what colours mean to NO_COLOR, $PSStyle knows.
        Escapes = IsTerminal && Environment.GetEnvironmentVariable("TERM") != "dumb" && VirtualTerminal.TryEnable();
    }

    public static TerminalStream Output { get; } = new(() => Console.Out, Console.IsOutputRedirected);

    public static TerminalStream Error { get; } = new(() => Console.Error, Console.IsErrorRedirected);

    /// <summary>A person may be looking at it.</summary>
    public bool IsTerminal { get; }

    /// <summary>It understands escape sequences.</summary>
    public bool Escapes { get; }

    /// <summary>Writes text, without its escape sequences where they would not be understood or are not wanted.</summary>
    public void Write(string text) => _writer().Write(PSHostUserInterface.GetOutputString(text, Escapes));

    public void WriteLine(string text) => _writer().WriteLine(PSHostUserInterface.GetOutputString(text, Escapes));

    /// <summary>Writes escape sequences that move the cursor or erase: they are wanted even without colours.</summary>
    public void WriteControl(string text) => _writer().Write(text);
}
