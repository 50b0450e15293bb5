namespace UnslothMerge.Verification;

/// <summary>A saved model, as far as it can be opened, and the problems of what cannot.</summary>
internal sealed class OutputModel
{
    private readonly List<string> _fileProblems = [];
    private readonly List<string> _indexProblems = [];
    private readonly List<SafetensorsFile> _files = [];

    public OutputModel(string path)
    {
        Path = System.IO.Path.GetFullPath(path);
        if (!Directory.Exists(Path))
        {
            throw new MergeException(
                File.Exists(Path) ? MergeError.InvalidModel : MergeError.PathNotFound,
                $"The model directory '{path}' {(File.Exists(Path) ? "is a file" : "does not exist")}.", path,
                "Pass the directory that Save-MergedModel wrote.");
        }

        if (File.Exists(System.IO.Path.Combine(Path, "adapter_config.json")) && !File.Exists(System.IO.Path.Combine(Path, "config.json")))
        {
            throw new MergeException(
                MergeError.InvalidModel, $"'{path}' is an adapter, not a model: there is no merge to test.", path,
                "Pass the directory of a merged model. Get-LoraAdapter -Base shows whether an adapter fits a base.");
        }

        ReadConfig();
        OpenFiles();
        Stored = Sources = Read();
    }

    public string Path { get; }

    /// <summary>config.json; null if it cannot be read.</summary>
    public ModelConfig? Config { get; private set; }

    public bool HasIndex => IndexPath is not null;

    public IReadOnlyList<SafetensorsFile> Files => _files;

    public IReadOnlyList<string> FileProblems => _fileProblems;

    public IReadOnlyList<string> IndexProblems => _indexProblems;

    /// <summary>Why the tensors could not be read as the config says; null if they could.</summary>
    public string? FormatProblem { get; private set; }

    /// <summary>The tensors by their plain names, as they are stored.</summary>
    public IReadOnlyDictionary<string, TensorSource> Stored { get; }

    /// <summary>The tensors by the names that they have in the base.</summary>
    public IReadOnlyDictionary<string, TensorSource> Sources { get; private set; }

    /// <summary>Takes experts' matrices that are stored one by one for the stacks that they are in a merge.</summary>
    public void Stack(IReadOnlyList<LogicalTensor> planned)
    {
        var shapes = planned.ToDictionary(t => t.Name, t => t.Shape, StringComparer.Ordinal);
        var sources = new Dictionary<string, TensorSource>(Stored, StringComparer.Ordinal);
        foreach (var name in shapes.Keys.Where(n => !sources.ContainsKey(n)))
        {
            if (FusedExperts.Of(name, shapes.GetValueOrDefault) is { } fused && fused.Stack(Stored.GetValueOrDefault) is { } stack)
            {
                sources[name] = stack;
                fused.Modules.ToList().ForEach(m => sources.Remove(m + ".weight"));
            }
        }

        Sources = sources;
    }

    private string? IndexPath => Find(ShardIndex.FileName) ?? Find(ShardIndex.NameFor("*"));

    private void ReadConfig()
    {
        try
        {
            Config = ModelConfig.Read(Path);
        }
        catch (MergeException e)
        {
            _fileProblems.Add(e.Message);
        }
    }

    private void OpenFiles()
    {
        var names = Directory.EnumerateFiles(Path, "*.safetensors").Select(f => System.IO.Path.GetFileName(f));
        List<string> found = [.. names.Order(StringComparer.Ordinal)];
        var map = ReadIndex();
        List<string> expected = map is null
            ? [SingleName(found)]
            : [.. map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        _fileProblems.AddRange(expected.Except(found).Select(name => $"{name} is missing"));
        _fileProblems.AddRange(found.Except(expected).Select(name => $"{name} does not belong to it"));
        foreach (var name in expected.Intersect(found))
        {
            try
            {
                _files.Add(SafetensorsFile.Open(System.IO.Path.Combine(Path, name)));
            }
            catch (MergeException e)
            {
                _fileProblems.Add(e.Message);
            }
        }

        if (map is not null)
        {
            CompareIndex(map);
        }
    }

    // model.VARIANT.safetensors, if it is the only file.
    private static string SingleName(List<string> found) =>
        found is [var only] && only.StartsWith("model.", StringComparison.Ordinal) ? only : "model.safetensors";

    private string? Find(string pattern) => Directory.EnumerateFiles(Path, pattern).Order(StringComparer.Ordinal).FirstOrDefault();

    private IReadOnlyDictionary<string, string>? ReadIndex()
    {
        try
        {
            return IndexPath is { } path ? ShardIndex.Read(path) : null;
        }
        catch (MergeException e)
        {
            _indexProblems.Add(e.Message);
            return null;
        }
    }

    private void CompareIndex(IReadOnlyDictionary<string, string> map)
    {
        var shards = _files.SelectMany(f => f.Tensors).ToLookup(t => t.Name, t => t.File.Name, StringComparer.Ordinal);
        var opened = _files.Select(f => f.File.Name).ToHashSet(StringComparer.Ordinal);
        _indexProblems.AddRange(shards.Where(t => t.Count() > 1).Select(t => $"{t.Key} is in {string.Join(" and ", t)}"));
        _indexProblems.AddRange(
            map.Where(e => opened.Contains(e.Value) && !shards[e.Key].Contains(e.Value)).Select(e => $"{e.Key} is not in {e.Value}"));
        _indexProblems.AddRange(shards.Where(t => !map.ContainsKey(t.Key)).Select(t => $"{t.Key} is not in the index"));
        var stated = (JsonFile.Read(IndexPath!, MergeError.InvalidModel)["metadata"] as System.Text.Json.Nodes.JsonObject)?.Number(
            "total_size");
        var actual = _files.SelectMany(f => f.Tensors).Sum(t => t.Length);
        if (stated is { } size && (long)size != actual && _fileProblems.Count == 0)
        {
            _indexProblems.Add($"total_size is {size:0} instead of {actual}");
        }
    }

    // The config says which tensors are quantized; without a config that fits them, each is read as it is stored.
    private Dictionary<string, TensorSource> Read()
    {
        if (Config is not null && _fileProblems.Count == 0 && _indexProblems.Count == 0)
        {
            try
            {
                return StoredFormats.Read(ModelDirectory.Open(Path)).ToDictionary(t => t.Name, t => t.Source, StringComparer.Ordinal);
            }
            catch (MergeException e)
            {
                FormatProblem = e.Message;
            }
        }

        return _files.SelectMany(f => f.Tensors).DistinctBy(t => t.Name).ToDictionary(
            t => t.Name, t => (TensorSource)new PlainSource(t), StringComparer.Ordinal);
    }
}
