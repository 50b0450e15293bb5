namespace UnslothMerge.Hub;

/// <summary>Something that the Hub, or a retry, had to say.</summary>
internal sealed record HubNotice(string Text, bool IsWarning);
