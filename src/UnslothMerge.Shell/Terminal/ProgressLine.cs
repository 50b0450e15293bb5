using System.Globalization;
using System.Management.Automation;

namespace UnslothMerge.Shell.Terminal;

/// <summary>
/// One transient line of progress on the terminal behind standard error. It is erased before anything else
/// is written and drawn again by the next record.
/// </summary>
internal sealed class ProgressLine
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(100);

    private readonly TerminalStream _terminal;
    private readonly Func<int> _width;
    private readonly HashSet<(long Source, int Activity)> _active = [];
    private long _drawnAt;
    private bool _visible;

    public ProgressLine(TerminalStream terminal, Func<int> width)
    {
        _terminal = terminal;
        _width = width;
    }

    /// <summary>Shows a record, unless the last one was shown just now.</summary>
    public void Show(long source, ProgressRecord record)
    {
        if (!_terminal.Escapes)
        {
            return;
        }

        if (record.RecordType == ProgressRecordType.Completed)
        {
            // An outer activity draws itself again with its next record; only the first drawing of one is never late.
            _active.Remove((source, record.ActivityId));
            Erase();
            _drawnAt = 0;
            return;
        }

        var isNew = _active.Add((source, record.ActivityId));
        if (isNew || Environment.TickCount64 - _drawnAt >= Interval.TotalMilliseconds)
        {
            Draw(Text(record, _width() - 1));
        }
    }

    /// <summary>Takes the line off the screen, so that something else can be written.</summary>
    public void Erase()
    {
        if (_visible)
        {
            _terminal.WriteControl("\r\e[K");
            _visible = false;
        }
    }

    /// <summary>Forgets activities that were never completed, as after Ctrl+C.</summary>
    public void Reset()
    {
        Erase();
        _active.Clear();
        _drawnAt = 0;
    }

    /// <summary>The line's text: the activity, how much is done, and what is being done, cut to the width.</summary>
    internal static string Text(ProgressRecord record, int width)
    {
        var parts = new List<string> { record.Activity };
        if (record.PercentComplete >= 0)
        {
            parts.Add(string.Create(CultureInfo.CurrentCulture, $"{record.PercentComplete,3}%"));
        }

        parts.Add(record.StatusDescription);
        if (record.SecondsRemaining >= 0)
        {
            parts.Add($"{TimeSpan.FromSeconds(record.SecondsRemaining):h\\:mm\\:ss} left");
        }

        parts.Add(record.CurrentOperation);
        var text = string.Join("  ", parts.Where(part => !string.IsNullOrWhiteSpace(part))).ReplaceLineEndings(" ");
        return text.Length <= width ? text : string.Concat(text.AsSpan(0, Math.Max(0, width - 1)), "…");
    }

    private void Draw(string text)
    {
        _terminal.WriteControl("\r\e[K");
        _terminal.Write($"{PSStyle.Instance.Progress.Style}{text}{PSStyle.Instance.Reset}");
        _visible = true;
        _drawnAt = Environment.TickCount64;
    }
}
