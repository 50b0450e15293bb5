namespace UnslothMerge;

/// <summary>A regular expression out of a file of other people, or of several, one of which must match. Some expressions take longer than
/// anybody waits: they are refused, as those are that cannot be read.</summary>
internal sealed class ForeignPattern
{
    private readonly Regex _regex;
    private readonly MergeError _error;
    private readonly string _what;
    private readonly string? _target;
    private long _ticks;
    private long _names;

    /// <summary>Reads an expression. <paramref name="what"/> begins the error: where the expression stands.</summary>
    public ForeignPattern(string pattern, MergeError error, string what, string? target = null)
    {
        (_error, _what, _target) = (error, what, target);
        if (pattern.Length > Limits.PatternLength)
        {
            throw Refused($"it has {pattern.Length} characters; at most {Limits.PatternLength} are read");
        }

        try
        {
            _regex = new Regex(pattern, RegexOptions.CultureInvariant, Limits.PatternTime);
        }
        catch (Exception e) when (e is ArgumentException or InsufficientExecutionStackException)
        {
            throw Refused(e.Message.TrimEnd('.'), e);
        }
    }

    /// <summary>True if it matches a part of a name.</summary>
    public bool IsMatch(string name)
    {
        var start = Stopwatch.GetTimestamp();
        bool matches;
        try
        {
            matches = _regex.IsMatch(name);
        }
        catch (RegexMatchTimeoutException e)
        {
            throw TooSlow(e);
        }

        var all = TimeSpan.FromTicks(Interlocked.Add(ref _ticks, Stopwatch.GetElapsedTime(start).Ticks));
        return all <= Limits.PatternTime + (Interlocked.Increment(ref _names) * Limits.PatternTimePerName) ? matches : throw TooSlow();
    }

    private MergeException TooSlow(Exception? inner = null) =>
        Refused($"it takes longer than {Limits.PatternTime.TotalSeconds} s, as nested repetitions do", inner);

    private MergeException Refused(string why, Exception? inner = null) => new(
        _error, $"{_what} cannot be used as a regular expression: {why}.", _target, "Correct the expression, or write names in its place.",
        inner);
}
