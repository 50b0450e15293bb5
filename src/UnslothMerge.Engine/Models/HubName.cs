namespace UnslothMerge.Models;

/// <summary>What a model is called on the Hub: <c>org/name</c>.</summary>
internal static class HubName
{
    /// <summary>True for a name that the Hub could have.</summary>
    public static bool IsOne(string? name) =>
        name is not null && name.Split('/') is { Length: 2 } parts
            && parts.All(p =>
                p.Length is > 0 and <= 96 && p[0] is not '.' && p.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'));
}
