namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters of the output that a merge was planned with, on their way through the pipeline to Save-MergedModel.</summary>
internal sealed record PlannedOutput(IReadOnlyDictionary<string, object?> Parameters)
{
    /// <summary>No parameters.</summary>
    public static IReadOnlyDictionary<string, object?> None { get; } = new Dictionary<string, object?>();

    /// <summary>A value as a user would write it.</summary>
    public static string Text(object? value) => value is string[] several ? string.Join(", ", several) : $"{value}";
}
