using System.Management.Automation;
using System.Management.Automation.Language;
using UnslothMerge.Shell.Terminal;

namespace UnslothMerge.Shell;

/// <summary>Reads commands from the keyboard and runs them until `exit` or Ctrl+D.</summary>
internal sealed class InteractivePrompt
{
    private readonly ShellSession _session;
    private readonly LineEditor _editor;

    public InteractivePrompt(ShellSession session)
    {
        _session = session;
        _editor = new LineEditor(Complete);
        session.Interruption.Interactive = true;
        session.Host.NestedPrompt = Run;
    }

    /// <summary>Prompts until the session, or this nested prompt, is left.</summary>
    public void Run()
    {
        while (_session.ExitCode is null && !_session.Host.LeaveNestedPrompt)
        {
            var (text, end) = Read();
            if (end)
            {
                break;
            }

            if (!string.IsNullOrWhiteSpace(text))
            {
                _session.RunText(text);
            }
        }

        _session.Host.LeaveNestedPrompt = false;
    }

    /// <summary>Reads lines until they make a whole command. An empty text means that it was given up.</summary>
    private (string Text, bool End) Read()
    {
        var text = "";
        for (var prompt = Prompt(); ; prompt = ">> ")
        {
            var line = _editor.Read(prompt);
            if (line.Outcome == LineOutcome.Cancelled)
            {
                return ("", false);
            }

            if (line.Outcome == LineOutcome.EndOfInput)
            {
                return ("", text.Length == 0);
            }

            text = text.Length == 0 ? line.Text : $"{text}\n{line.Text}";
            Parser.ParseInput(text, out _, out var errors);
            if (!errors.Any(error => error.IncompleteInput))
            {
                return (text, false);
            }
        }
    }

    private string Prompt()
    {
        try
        {
            return _session.Invoke(shell => shell.AddCommand("prompt")) is [var prompt, ..] ? prompt.ToString() : "PS> ";
        }
        catch (RuntimeException)
        {
            return "PS> ";
        }
    }

    private CommandCompletion? Complete(string line, int cursor)
    {
        try
        {
            using var shell = _session.NewPipeline();
            return CommandCompletion.CompleteInput(line, cursor, null, shell);
        }
        catch (RuntimeException)
        {
            // A completer that fails is not worth a message in the middle of a line.
            return null;
        }
    }
}
