using System.Management.Automation;
using System.Management.Automation.Internal;
using System.Text;

namespace UnslothMerge.Shell.Terminal;

/// <summary>
/// A line that can be edited, with history and completion. Console.ReadLine has neither, and cannot give up
/// a line at Ctrl+C.
/// </summary>
internal sealed class LineEditor
{
    private readonly Func<string, int, CommandCompletion?> _complete;
    private readonly List<string> _history = [];
    private readonly StringBuilder _text = new();

    private string _prompt = "";
    private int _promptLength;
    private int _cursor;
    private int _cursorRow;
    private int _historyIndex;
    private CommandCompletion? _completion;
    private int _completedLength;

    public LineEditor(Func<string, int, CommandCompletion?> complete) => _complete = complete;

    /// <summary>Reads a line.</summary>
    public (string Text, LineOutcome Outcome) Read(string prompt)
    {
        _prompt = prompt;
        _promptLength = new StringDecorated(prompt[(prompt.LastIndexOf('\n') + 1)..]).ContentLength;
        _text.Clear();
        _cursor = 0;
        _cursorRow = 0;
        _historyIndex = _history.Count;

        // Output without a line's end, or the ^C that stopped it.
        if (Console.CursorLeft != 0)
        {
            Console.Out.WriteLine();
        }

        TerminalStream.Output.Write(prompt);

        // Ctrl+C is a key here; while a pipeline runs it is a signal.
        Console.TreatControlCAsInput = true;
        try
        {
            while (true)
            {
                if (Handle(Console.ReadKey(intercept: true)) is { } outcome)
                {
                    MoveTo(_text.Length);
                    Console.Out.WriteLine(outcome == LineOutcome.Cancelled ? "^C" : "");
                    return (Remember(outcome), outcome);
                }
            }
        }
        finally
        {
            Console.TreatControlCAsInput = false;
        }
    }

    private string Remember(LineOutcome outcome)
    {
        var line = _text.ToString();
        if (outcome == LineOutcome.Entered && !string.IsNullOrWhiteSpace(line) && (_history.Count == 0 || _history[^1] != line))
        {
            _history.Add(line);
        }

        return line;
    }

    private LineOutcome? Handle(ConsoleKeyInfo key)
    {
        if (key.Key != ConsoleKey.Tab)
        {
            _completion = null;
        }

        var control = key.Modifiers.HasFlag(ConsoleModifiers.Control);
        switch (key.Key)
        {
            case ConsoleKey.Enter:
                return LineOutcome.Entered;
            case ConsoleKey.C when control:
                return LineOutcome.Cancelled;
            case ConsoleKey.D when control && _text.Length == 0:
                return LineOutcome.EndOfInput;
            case ConsoleKey.Tab:
                CompleteNext(key.Modifiers.HasFlag(ConsoleModifiers.Shift));
                break;
            case ConsoleKey.Escape:
                Replace(0, _text.Length, "");
                break;
            case ConsoleKey.U when control:
                Replace(0, _cursor, "");
                break;
            case ConsoleKey.K when control:
                Replace(_cursor, _text.Length - _cursor, "");
                break;
            case ConsoleKey.W when control:
            case ConsoleKey.Backspace when control:
                var word = WordLeft();
                Replace(word, _cursor - word, "");
                break;
            case ConsoleKey.Backspace:
                Replace(Math.Max(0, _cursor - 1), Math.Min(1, _cursor), "");
                break;
            case ConsoleKey.Delete:
            case ConsoleKey.D when control:
                Replace(_cursor, Math.Min(1, _text.Length - _cursor), "");
                break;
            case ConsoleKey.LeftArrow:
                MoveTo(control ? WordLeft() : Math.Max(0, _cursor - 1));
                break;
            case ConsoleKey.RightArrow:
                MoveTo(control ? WordRight() : Math.Min(_text.Length, _cursor + 1));
                break;
            case ConsoleKey.Home:
            case ConsoleKey.A when control:
                MoveTo(0);
                break;
            case ConsoleKey.End:
            case ConsoleKey.E when control:
                MoveTo(_text.Length);
                break;
            case ConsoleKey.UpArrow:
                Recall(_historyIndex - 1);
                break;
            case ConsoleKey.DownArrow:
                Recall(_historyIndex + 1);
                break;
            case ConsoleKey.L when control:
                Console.Clear();
                _cursorRow = 0;
                TerminalStream.Output.Write(_prompt);
                Replace(0, 0, "", _cursor);
                break;
            default:
                if (!char.IsControl(key.KeyChar))
                {
                    Replace(_cursor, 0, key.KeyChar.ToString());
                }

                break;
        }

        return null;
    }

    private void Recall(int index)
    {
        if (index < 0 || index > _history.Count)
        {
            return;
        }

        _historyIndex = index;
        Replace(0, _text.Length, index == _history.Count ? "" : _history[index]);
    }

    private void CompleteNext(bool backward)
    {
        if (_completion is null)
        {
            _completion = _complete(_text.ToString(), _cursor);
            _completedLength = _completion?.ReplacementLength ?? 0;
        }

        if (_completion?.GetNextResult(forward: !backward) is { } result)
        {
            Replace(_completion.ReplacementIndex, _completedLength, result.CompletionText);
            _completedLength = result.CompletionText.Length;
        }
    }

    private int WordLeft()
    {
        var i = _cursor;
        while (i > 0 && char.IsWhiteSpace(_text[i - 1]))
        {
            i--;
        }

        while (i > 0 && !char.IsWhiteSpace(_text[i - 1]))
        {
            i--;
        }

        return i;
    }

    private int WordRight()
    {
        var i = _cursor;
        while (i < _text.Length && !char.IsWhiteSpace(_text[i]))
        {
            i++;
        }

        while (i < _text.Length && char.IsWhiteSpace(_text[i]))
        {
            i++;
        }

        return i;
    }

    /// <summary>Changes the text, draws it again from the prompt's end and leaves the cursor behind what was put in.</summary>
    private void Replace(int start, int length, string replacement, int? cursor = null)
    {
        MoveTo(0);
        _text.Remove(start, length).Insert(start, replacement);
        Console.Out.Write("\e[J" + _text);
        _cursorRow = Row(_text.Length);

        // At the right edge terminals wait with the wrap until the next character.
        if (_text.Length > 0 && (_promptLength + _text.Length) % Width == 0)
        {
            Console.Out.Write("\r\n");
        }

        _cursor = _text.Length;
        MoveTo(cursor ?? (start + replacement.Length));
    }

    private static int Width => Math.Max(1, Console.WindowWidth);

    private int Row(int index) => (_promptLength + index) / Width;

    private void MoveTo(int index)
    {
        var rows = Row(index) - _cursorRow;
        var move = rows == 0 ? "" : rows < 0 ? $"\e[{-rows}A" : $"\e[{rows}B";
        Console.Out.Write($"{move}\e[{((_promptLength + index) % Width) + 1}G");
        _cursor = index;
        _cursorRow += rows;
    }
}
