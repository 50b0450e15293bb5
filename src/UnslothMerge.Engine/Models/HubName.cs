using System.Text.RegularExpressions;

namespace UnslothMerge.Models;

/// <summary>What a model is called on the Hub: <c>org/name</c>.</summary>
public static partial class HubName
{
    /// <summary>True for a name that the Hub could have.</summary>
    public static bool IsOne(string? name) =>
        name is not null && name.Split('/') is { Length: 2 } parts && parts.All(p => p.Length is > 0 and <= 96 && p[0] is not '.' && p.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'));

    /// <summary>The name under which the Hub's cache has a directory; null elsewhere.</summary>
    public static string? OfCached(string directory) => CachePath().Match(directory.Replace('\\', '/')) is { Success: true } match ? match.Groups["id"].Value.Replace("--", "/", StringComparison.Ordinal) : null;

    // …/models--org--name/snapshots/commit
    [GeneratedRegex("/models--(?<id>[^/]+)/snapshots/[^/]+/?$", RegexOptions.ExplicitCapture)]
    private static partial Regex CachePath();
}
