namespace UnslothMerge.Help;

/// <summary>Something that the help lacks.</summary>
internal sealed class HelpException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="source">The file or member.</param>
    /// <param name="message">What to add.</param>
    public HelpException(string source, string message)
        : base(message) => Source = source;
}
