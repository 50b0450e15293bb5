namespace UnslothMerge.Help;

/// <summary>Something that the help lacks.</summary>
/// <param name="source">The file or member.</param>
/// <param name="message">What to add.</param>
internal sealed class HelpException : Exception
{
    public HelpException(string source, string message)
        : base(message) => Source = source;
}
