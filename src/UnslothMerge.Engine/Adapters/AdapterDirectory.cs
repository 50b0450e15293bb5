using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Adapters;

/// <summary>The weights of an adapter, and the file that holds them: safetensors, or a pickle of torch.save.</summary>
internal sealed record AdapterWeights(string Path, IReadOnlyList<StoredTensor> Tensors);

/// <summary>An adapter directory, as PEFT would have saved it: its config, and handles of its tensors. Only headers are read: adapters can
/// be gigabytes.</summary>
internal sealed partial class AdapterDirectory
{
    /// <summary>The config's file name.</summary>
    public const string ConfigName = "adapter_config.json";

    /// <summary>The weights' file name.</summary>
    public const string WeightsName = "adapter_model.safetensors";

    /// <summary>The weights' file name in adapters that were saved as a pickle; read only where there is no
    /// <see cref="WeightsName"/>.</summary>
    public const string PickledWeightsName = "adapter_model.bin";

    private readonly AdapterLayout _layout;
    private readonly AdapterContent _content;
    private readonly Lazy<Task<string>> _hash;

    private AdapterDirectory(string path, AdapterLayout layout, AdapterContent content)
    {
        (Path, _layout, _content) = (path, layout, content);
        Config = new AdapterConfig(content.Config, System.IO.Path.Combine(path, ConfigName));
        Trained = TrainedFiles.Of(path, Weights.Path);
        _hash = new(() => Task.Run(() => InputFiles.HashOf(Weights.Tensors[0].File)));
    }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The directory's own name, or <c>org/name</c> in the Hub's cache.</summary>
    public string Name => HubCache.NameOf(Path) ?? System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(Path));

    /// <summary>The content of adapter_config.json.</summary>
    public AdapterConfig Config { get; }

    /// <summary>The weights.</summary>
    public AdapterWeights Weights => _content.Weights;

    /// <summary>The SHA-256 of the file of weights, in hexadecimal; computed beside other work from the first time that it is asked
    /// for.</summary>
    public Task<string> Hash => _hash.Value;

    /// <summary>True if config and weights are the folder's own files, byte for byte, in safetensors.</summary>
    public bool IsAsSaved => _content.IsAsSaved && System.IO.Path.GetFileName(Weights.Path) == WeightsName;

    /// <summary>The files beside them whose tensors replace the base's.</summary>
    internal IReadOnlyList<TrainedFile> Trained { get; }

    /// <summary>Every tensor to place.</summary>
    public IEnumerable<StoredTensor> Tensors => Weights.Tensors.Concat(Trained.SelectMany(f => f.Tensors));

    /// <summary>Reads an adapter's config and header.</summary>
    public static AdapterDirectory Open(string path)
    {
        var full = HubCache.Resolve(System.IO.Path.GetFullPath(path));
        if (!Directory.Exists(full))
        {
            if (File.Exists(full))
            {
                throw new MergeException(
                    MergeError.InvalidAdapter, $"'{path}' is a file, not the directory of an adapter.", path,
                    GivenPath.AdviceForFile(full));
            }

            throw new MergeException(
                MergeError.PathNotFound, $"The adapter directory '{path}' does not exist.", path,
                $"Pass the directory that holds {ConfigName} and {WeightsName}, or the adapter's name on the Hub, org/name.");
        }

        foreach (var layout in AdapterLayouts.Table)
        {
            if (layout.Read(full) is { } content)
            {
                return content.Weights.Tensors.Count > 0
                    ? new AdapterDirectory(full, layout, content)
                    : throw new MergeException(
                        MergeError.InvalidAdapter, $"'{content.Weights.Path}' holds no tensors: there is nothing to merge.", path,
                        "Save the trained adapter again.");
            }
        }

        if (GivenPath.WithoutSnapshot(full) is { } repository)
        {
            throw new MergeException(MergeError.InvalidAdapter, $"'{path}' {repository.Lacks}.", path, repository.Advice);
        }

        var below = Below(full);
        throw new MergeException(
            MergeError.InvalidAdapter,
            $"'{path}' is not an adapter: it has no {ConfigName}.{(below.Count == 0 ? ""
                : $" There {(below.Count == 1 ? "is an adapter" : "are adapters")} below it: {string.Join(", ", below)}"
                    + $"{(below.Count == 1 ? "" : $"; the newest is {below[0]}")}.")}",
            path,
            below.Count == 1 ? "Pass that directory."
                : below.Count > 1 ? "Pass one of those directories."
                : File.Exists(System.IO.Path.Combine(full, "config.json"))
                    ? $"It holds a model. Pass it as the base, and as the adapter the directory that holds {ConfigName} and {WeightsName}."
                : $"Pass the directory that holds {ConfigName} and {WeightsName}.");
    }

    /// <summary>The adapter as it is for a base, which may tell what its files do not.</summary>
    public AdapterDirectory For(ModelDirectory model) => new(Path, _layout, _layout.Fit(_content, model));

    /// <summary>A folder and all below it, but not what links lead to: they may lead around.</summary>
    internal static EnumerationOptions Everywhere { get; } =
        new() { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.ReparsePoint };

    // The newest first: trainers count steps and epochs at the end of a name.
    private static List<string> Below(string full) =>
    [
        .. Directory.EnumerateFiles(full, ConfigName, Everywhere)
            .OrderByDescending(f => LastNumber().Match(System.IO.Path.GetDirectoryName(f)!) is { Success: true } number
                ? long.Parse(number.Value, CultureInfo.InvariantCulture) : -1)
            .ThenByDescending(File.GetLastWriteTimeUtc)
            .Select(f => System.IO.Path.GetRelativePath(full, System.IO.Path.GetDirectoryName(f)!).Replace('\\', '/')),
    ];

    [GeneratedRegex(@"\d{1,18}$")]
    private static partial Regex LastNumber();
}
