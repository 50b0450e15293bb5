namespace UnslothMerge.Shell.Terminal;

/// <summary>How the reading of a line ended.</summary>
internal enum LineOutcome
{
    /// <summary>With Enter.</summary>
    Entered,

    /// <summary>With Ctrl+C.</summary>
    Cancelled,

    /// <summary>With Ctrl+D on an empty line.</summary>
    EndOfInput,
}
