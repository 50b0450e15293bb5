namespace UnslothMerge.Saving;

/// <summary>The files that a saved model takes over as they are: tokenizer, templates, processor, generation config, remote code,
/// licence.</summary>
internal static class CarriedFiles
{
    /// <summary>The tokenizer that the user gave (it may be a processor only), else that of the first adapter with one of its own, else the
    /// base's, as relative path → file. It is one directory's whole set, never a mixture; only what a directory without a vocabulary has (a
    /// template, a config) goes on top of the base's.</summary>
    public static IReadOnlyDictionary<string, string> Tokenizer(string baseDirectory, IReadOnlyList<string> adapterDirectories,
        string? tokenizer = null)
    {
        RequireTokenizer(tokenizer);
        var files = new SortedList<string, string>(StringComparer.Ordinal);
        var owner = adapterDirectories.Prepend(tokenizer).OfType<string>().FirstOrDefault(ModelFiles.HasTokenizer);
        foreach (var directory in owner is null ? adapterDirectories.Reverse().Prepend(baseDirectory) : [owner])
        {
            Add(files, directory, ModelFiles.Tokenizer(directory));
        }

        if (owner is not null && HaveSameVocabulary(baseDirectory, owner))
        {
            Add(files, baseDirectory, NotSaved(baseDirectory, files));
        }

        // The processor that the adapter was trained with is saved beside the tokenizer.
        foreach (var directory in adapterDirectories.Prepend(tokenizer).OfType<string>().Reverse())
        {
            Add(files, directory, ModelFiles.Processor(directory));
        }

        ChatTemplates.KeepFirst(files, Precedence(baseDirectory, adapterDirectories, tokenizer));
        return files;
    }

    /// <summary>The directories that files come from, the one that wins first.</summary>
    public static IEnumerable<string> Precedence(string baseDirectory, IEnumerable<string> adapterDirectories, string? tokenizer) =>
        adapterDirectories.Prepend(tokenizer).OfType<string>().Append(baseDirectory);

    /// <summary>The files of the base's vocabulary in its older forms (<c>tokenizer.model</c>, <c>vocab.json</c>, <c>merges.txt</c>) that
    /// are not among files.</summary>
    public static IEnumerable<string> NotSaved(string baseDirectory, IReadOnlyDictionary<string, string> files) =>
        ModelFiles.OlderVocabulary(baseDirectory).Where(f => !files.ContainsKey(f));

    /// <summary>All files that a merged model takes over: relative path → file.</summary>
    public static IReadOnlyDictionary<string, string> ForModel(string baseDirectory, IReadOnlyList<string> adapterDirectories,
        string? tokenizer = null)
    {
        var files = new SortedList<string, string>(StringComparer.Ordinal);
        Add(files, baseDirectory, ModelFiles.Carried(baseDirectory));
        foreach (var (name, path) in Tokenizer(baseDirectory, adapterDirectories, tokenizer))
        {
            files[name] = path;
        }

        return files;
    }

    private static void Add(SortedList<string, string> files, string directory, IEnumerable<string> names)
    {
        foreach (var name in names)
        {
            files[name] = Path.Combine(directory, name);
        }
    }

    // An adapter saves tokenizer.json alone. Tokens that were added to it are in no older form.
    private static bool HaveSameVocabulary(string a, string b)
    {
        var paths = new[] { a, b }.Select(d => Path.Combine(d, "tokenizer.json")).ToList();
        try
        {
            return paths.TrueForAll(File.Exists) && paths.ConvertAll(Vocabulary) is [{ } x, { } y] && JsonElement.DeepEquals(x, y);
        }
        catch (JsonException)
        {
            return false;
        }

        static JsonElement? Vocabulary(string path)
        {
            using var json = JsonDocument.Parse(FolderFile.ReadAllBytes(path));
            return json.RootElement.TryGetProperty("model", out var model) && model.TryGetProperty("vocab", out var vocabulary)
                ? vocabulary.Clone() : null;
        }
    }

    private static void RequireTokenizer(string? directory)
    {
        var trouble = directory is null ? null
            : !Directory.Exists(directory) ? File.Exists(directory) ? "is a file" : "does not exist"
            : ModelFiles.HasTokenizer(directory) || ModelFiles.Processor(directory).Count > 0 ? null
            : "has neither a vocabulary nor the config of a processor";
        if (trouble is not null)
        {
            throw new MergeException(
                Path.Exists(directory) ? MergeError.InvalidOption : MergeError.PathNotFound,
                $"The tokenizer directory '{directory}' {trouble}.", "Tokenizer",
                "Give the directory that the tokenizer's save_pretrained wrote.");
        }
    }

    /// <summary>Makes sure that files can be copied, before the work that would be lost if they could not. A link must not lead out of the
    /// model's folder: whoever made the model would choose which files of this machine are published with it.</summary>
    public static void RequireReadable(IReadOnlyDictionary<string, string> files)
    {
        foreach (var (name, path) in files)
        {
            try
            {
                using var file = RegularFile.Open(path);
                FolderFile.RequireWithin(
                    path, path.EndsWith(name, StringComparison.Ordinal) ? path[..^name.Length] : Path.GetDirectoryName(path)!);
                if (RandomAccess.GetLength(file) is > Limits.CopiedBytes and var length)
                {
                    throw new IOException($"it has {length} bytes; at most {Limits.CopiedBytes} are copied of such a file.");
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new MergeException(MergeError.InvalidModel,
                    $"'{path}' cannot be read, and would be missing in the saved model: {e.Message}", path,
                    "Download it again, or remove it if it is a broken link.", e);
            }
        }
    }

    /// <summary>Copies files into a directory.</summary>
    public static void Copy(IReadOnlyDictionary<string, string> files, string directory, IDisk disk)
    {
        foreach (var (name, path) in files)
        {
            var target = Path.Combine(directory, name);
            disk.CreateTree(Path.GetDirectoryName(target)!);
            disk.Copy(path, target);
        }
    }
}
