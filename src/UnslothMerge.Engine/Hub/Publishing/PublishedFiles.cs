using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Publishing;

/// <summary>The files of a directory that are published, with nothing in them that belongs to this machine alone.</summary>
internal static partial class PublishedFiles
{
    private static readonly string[] NameKeys = ["_name_or_path", "base_model_name_or_path"];
    private static readonly string[] Texts = [".json", ".md", ".yaml", ".yml"];
    private const int MaxTextLength = 4 * 1024 * 1024;

    /// <summary>The files of a saved model as they are published. The inputs are directories that no text may name, beside the model's
    /// own.</summary>
    public static List<UploadFile> Open(string directory, string? baseId, IEnumerable<string> inputs, ICollection<string> warnings,
        IDisk? disk = null) =>
        [.. List(directory).Select(f => Open(f.Value, f.Key, baseId, inputs.Append(Path.GetFullPath(directory)), warnings, disk))];

    /// <summary>The base that a model's card names, if that is a model on the Hub.</summary>
    public static string? BaseOf(string directory) => CardText.Read(directory)?.Facts.Values("base_model").FirstOrDefault(HubName.IsOne);

    /// <summary>The directories that a merge reads.</summary>
    public static IEnumerable<string> InputsOf(MergePlan merge) => merge.Steps.Select(s => s.Adapter.Path).Prepend(merge.Base.Path);

    /// <summary>Lists them, by their paths in the repository. A link that leads out of the directory is refused.</summary>
    private static Dictionary<string, string> List(string directory)
    {
        var root = Path.GetFullPath(directory);
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, IgnoreInaccessible = false };
        var files = Directory.EnumerateFiles(root, "*", options)
            .Select(f => (Name: Path.GetRelativePath(root, f).Replace('\\', '/'), Path: f))
            .Where(f => !Skipped().IsMatch(f.Name)).OrderBy(f => f.Name, StringComparer.Ordinal).ToList();
        var blobs = HubCache.BlobsOf(root);
        foreach (var (name, path) in files)
        {
            var target = RealPath.OfFile(path);
            if (!RealPath.IsWithin(target, RealPath.Of(root)) && !(blobs is not null && RealPath.IsWithin(target, RealPath.Of(blobs))))
            {
                throw new MergeException(MergeError.InvalidModel, $"'{path}' is a link to '{target}', outside of the model.", path,
                    "Put the file itself there, or remove the link.");
            }
        }

        return files.ToDictionary(f => f.Name, f => f.Path, StringComparer.Ordinal);
    }

    /// <summary>A file of the disk as it is published. The name of a local directory in a config is replaced by the base's name on the Hub,
    /// or left out; a token or a path of this user in another text is refused.</summary>
    private static UploadFile Open(
        string path, string name, string? baseId, IEnumerable<string> inputs, ICollection<string> warnings, IDisk? disk)
    {
        var length = new FileInfo(path).Length;
        if (length > MaxTextLength || !Texts.Contains(Path.GetExtension(name)) || Vocabulary().IsMatch(name))
        {
            return UploadFile.At(path, name, disk);
        }

        var text = Encoding.UTF8.GetString(RegularFile.ReadAllBytes(path)).TrimStart('\uFEFF');
        var clean = Clean(text, name, baseId, inputs, warnings);
        return ReferenceEquals(text, clean) ? UploadFile.At(path, name, disk) : UploadFile.Of(Encoding.UTF8.GetBytes(clean), name);
    }

    /// <summary>A text as it is published. The inputs are directories that it must not name.</summary>
    public static string Clean(string text, string name, string? baseId, IEnumerable<string> inputs, ICollection<string> warnings)
    {
        if (name is "config.json" or "adapter_config.json" or "tokenizer_config.json" && NameKeys.Any(k =>
            text.Contains($"\"{k}\"", StringComparison.Ordinal)))
        {
            text = WithoutPaths(text, name, baseId, warnings);
        }

        if (name == MergeRecord.FileName && text.Contains($"\"{MergeRecord.UnsyncedKey}\"", StringComparison.Ordinal))
        {
            text = WithoutLengths(text);
        }

        if (Token().Match(text) is { Success: true } token)
        {
            throw Private(name, "something that looks like an access token", LineOf(text, token.Index));
        }

        foreach (var secret in inputs.Where(p => p.Count(c => c is '/' or '\\') >= 2).Prepend(Home))
        {
            if (text.IndexOf(secret, StringComparison.Ordinal) is >= 0 and var at)
            {
                throw Private(name, $"the path '{secret.TrimEnd(Path.DirectorySeparatorChar)}' of this machine", LineOf(text, at));
            }
        }

        return text;
    }

    private static string WithoutPaths(string text, string name, string? baseId, ICollection<string> warnings)
    {
        JsonObject? json;
        try
        {
            json = JsonFile.Parse(text) as JsonObject;
        }
        catch (JsonException e)
        {
            throw new MergeException(MergeError.InvalidModel, $"'{name}' cannot be read: {e.Message}", name,
                "Correct the file, and repeat the command.", e);
        }

        if (json is null)
        {
            return text;
        }

        var changed = false;
        foreach (var key in NameKeys)
        {
            if (json[key] is JsonValue value && value.TryGetValue<string>(out var path) && IsLocal(path))
            {
                changed = true;
                if (baseId is null)
                {
                    json.Remove(key);
                    warnings.Add($"{key} of {name} is a local path, so it is left out of what is published.");
                }
                else
                {
                    json[key] = baseId;
                    warnings.Add($"{key} of {name} is a local path: '{baseId}' is published in its place.");
                }
            }
        }

        return changed ? JsonFile.Text(json) : text;
    }

    // They are of this disk: what is published may be longer or shorter.
    private static string WithoutLengths(string text)
    {
        try
        {
            var json = JsonFile.OfText(text);
            return json.Remove(MergeRecord.UnsyncedKey) ? JsonFile.Text(json) : text;
        }
        catch (JsonException)
        {
            return text;
        }
    }

    private static bool IsLocal(string name) => name.Length > 0
        && (Path.IsPathRooted(name) || name[0] is '.' or '~' || name.Contains('\\', StringComparison.Ordinal)
            || (!HubName.IsOne(name) && name.Contains('/', StringComparison.Ordinal)) || Directory.Exists(name));

    // It names the user.
    private static string Home => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) + Path.DirectorySeparatorChar;

    private static int LineOf(string text, int at) => text.AsSpan(0, at).Count('\n') + 1;

    private static MergeException Private(string name, string what, int line) => new(MergeError.InvalidModel,
        $"'{name}' holds {what} (line {line}), which would be published.", name, "Remove it from the file, and repeat the command.");

    // What belongs to Git, to the Hub's tools, or to a save in progress.
    [GeneratedRegex(@"(^|/)(\.git|\.cache)/|(^|/)(\.git|\.DS_Store|Thumbs\.db|__pycache__/.*)$|^\.[^/]*\.unslothmerge-")]
    private static partial Regex Skipped();

    // Words of a language, not of a user.
    [GeneratedRegex(@"(^|/)(tokenizer\.json|[^/]*vocab[^/]*|merges[^/]*)$")]
    private static partial Regex Vocabulary();

    [GeneratedRegex(@"\bhf_[A-Za-z0-9]{30,}\b")]
    private static partial Regex Token();
}
