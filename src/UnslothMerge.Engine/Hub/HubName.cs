namespace UnslothMerge.Hub;

/// <summary>What a model is called on the Hub: <c>org/name</c>.</summary>
internal static partial class HubName
{
    /// <summary>True for a name with a namespace that the Hub could have.</summary>
    public static bool IsOne(string? name) => name?.Split('/') is { Length: 2 } parts && parts.All(IsPart);

    /// <summary>True for the name of an account or of a repository without its account.</summary>
    public static bool IsPart(string text) =>
        text.Length <= 96 && Part().IsMatch(text) && !text.Contains("--", StringComparison.Ordinal)
        && !text.Contains("..", StringComparison.Ordinal) && !text.EndsWith(".git", StringComparison.Ordinal);

    [GeneratedRegex(@"\A[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\z")]
    private static partial Regex Part();
}
