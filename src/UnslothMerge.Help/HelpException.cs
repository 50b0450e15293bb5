namespace UnslothMerge.Help;

/// <summary>Something that the help lacks.</summary>
internal sealed class HelpException : Exception
{
    /// <summary>Creates the error.</summary>
    public HelpException(string source, string message)
        : base(message) => Source = source;
}
