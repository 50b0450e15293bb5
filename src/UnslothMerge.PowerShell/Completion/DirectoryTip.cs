namespace UnslothMerge.PowerShell.Completion;

/// <summary>Says what lies in a directory that is offered.</summary>
internal static class DirectoryTip
{
    /// <summary>The kind, rank and base of an adapter, or the class of a model, and the path; the path alone where a config cannot be
    /// read: the command will say why.</summary>
    public static string Of(string directory)
    {
        try
        {
            var adapter = Path.Combine(directory, "adapter_config.json");
            var parts = File.Exists(adapter) ? OfAdapter(JsonFile.Read(adapter, MergeError.InvalidAdapter))
                : ModelConfig.Read(directory).Architectures.Take(1);
            return string.Join(", ", parts.Where(p => p is not null)) is { Length: > 0 } text ? $"{text}: {directory}" : directory;
        }
        catch (MergeException)
        {
            return directory;
        }
    }

    private static IEnumerable<string?> OfAdapter(JsonObject config) =>
    [
        config.String("peft_type"),
        config.Number("r") is { } rank ? $"rank {rank}" : null,
        config.String("base_model_name_or_path") is { Length: > 0 } trained ? $"trained on {trained}" : null,
    ];
}
