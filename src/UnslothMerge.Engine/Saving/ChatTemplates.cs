namespace UnslothMerge.Saving;

/// <summary>A model has one chat template, from the first directory that brings one: files of others, and what their configs hold inline,
/// would win over it in some loaders. Processors read a file only, tokenizers also <c>tokenizer_config.json</c>.</summary>
internal static class ChatTemplates
{
    private const string Key = "chat_template", TokenizerConfig = "tokenizer_config.json", FileName = "chat_template.jinja";

    private static readonly string[] Configs = [TokenizerConfig, "processor_config.json", "preprocessor_config.json"];

    /// <summary>Removes the files of all directories but the first with a template. Files are relative path → file.</summary>
    public static void KeepFirst(IDictionary<string, string> files, IEnumerable<string> directories)
    {
        var owner = Owner(files, directories);
        foreach (var (name, _) in files.Where(f => IsTemplate(f.Key) && !IsOf(f, owner)).ToList())
        {
            files.Remove(name);
        }
    }

    /// <summary>The files to write in place of copies: name → text.</summary>
    public static IEnumerable<(string Name, string Text)> Written(
        IReadOnlyDictionary<string, string> files, IEnumerable<string> directories)
    {
        var owner = Owner(files, directories);
        foreach (var file in files.Where(f => !IsOf(f, owner) && Inline(f) is not null))
        {
            var config = JsonFile.Read(file.Value, MergeError.InvalidModel);
            config.Remove(Key);
            yield return (file.Key, JsonFile.Text(config));
        }

        var hasProcessor = files.Keys.Any(f => f.EndsWith("processor_config.json", StringComparison.Ordinal));
        if (hasProcessor && owner is not null && !files.Keys.Any(IsTemplate)
            && files.Where(f => f.Key == TokenizerConfig).Select(Inline).FirstOrDefault() is { } template && Default(template) is { } text)
        {
            yield return (FileName, text);
        }
    }

    private static string? Owner(IEnumerable<KeyValuePair<string, string>> files, IEnumerable<string> directories) =>
        directories.FirstOrDefault(d => files.Any(f => IsOf(f, d) && (IsTemplate(f.Key) || Inline(f) is not null)));

    private static bool IsTemplate(string name) => name.StartsWith("chat_template.", StringComparison.Ordinal)
        || name.StartsWith("chat_templates/", StringComparison.Ordinal)
        || name.StartsWith("additional_chat_templates/", StringComparison.Ordinal);

    private static bool IsOf(KeyValuePair<string, string> file, string? directory) =>
        directory is not null && file.Value == Path.Combine(directory, file.Key);

    private static JsonNode? Inline(KeyValuePair<string, string> file) =>
        Configs.Contains(file.Key) && Text(file.Value).Contains($"\"{Key}\"", StringComparison.Ordinal)
            ? JsonFile.Read(file.Value, MergeError.InvalidModel)[Key] : null;

    private static string Text(string path)
    {
        try
        {
            return FolderFile.ReadText(path, Limits.JsonBytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidModel, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    // A text, or a list of templates with names.
    private static string? Default(JsonNode template) => template is JsonArray named
        ? named.OfType<JsonObject>().FirstOrDefault(t => t.String("name") == "default")?.String("template")
        : template.GetValueKind() == JsonValueKind.String ? (string?)template : null;
}
