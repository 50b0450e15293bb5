using UnslothMerge.Models;
using UnslothMerge.Pickle;

namespace UnslothMerge.Adapters;

/// <summary>The weights of an adapter: safetensors, or a pickle of torch.save.</summary>
internal sealed record AdapterWeights(string Path, IReadOnlyList<StoredTensor> Tensors)
{
    /// <summary>True if the file is safetensors.</summary>
    public bool IsSafetensors => System.IO.Path.GetFileName(Path) == AdapterDirectory.WeightsName;
}

/// <summary>A PEFT adapter directory: its config, and handles of its tensors. Only headers are read: adapters can be gigabytes.</summary>
internal sealed class AdapterDirectory
{
    /// <summary>The config's file name.</summary>
    public const string ConfigName = "adapter_config.json";

    /// <summary>The weights' file name.</summary>
    public const string WeightsName = "adapter_model.safetensors";

    /// <summary>The weights' file name in adapters that were saved as a pickle; read only where there is no
    /// <see cref="WeightsName"/>.</summary>
    public const string PickledWeightsName = "adapter_model.bin";

    private AdapterDirectory(string path, AdapterConfig config, AdapterWeights weights)
    {
        Path = path;
        Config = config;
        Weights = weights;
    }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The directory's own name, or <c>org/name</c> in the Hub's cache.</summary>
    public string Name => HubCache.NameOf(Path) ?? System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(Path));

    /// <summary>The content of adapter_config.json.</summary>
    public AdapterConfig Config { get; }

    /// <summary>The weights.</summary>
    public AdapterWeights Weights { get; }

    /// <summary>Reads an adapter's config and header.</summary>
    public static AdapterDirectory Open(string path)
    {
        var full = HubCache.Resolve(System.IO.Path.GetFullPath(path));
        if (!Directory.Exists(full))
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter directory '{path}' {(File.Exists(full) ? "is a file" : "does not exist")}.", path,
                $"Pass the directory that holds {ConfigName} and {WeightsName}, or the name, org/name, of an adapter in the local Hugging "
                + "Face cache.");
        }

        var config = System.IO.Path.Combine(full, ConfigName);
        if (!File.Exists(config))
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"'{path}' is not an adapter: it has no {ConfigName}.", path, Suggestion(full));
        }

        var adapter = new AdapterDirectory(
            full, new AdapterConfig(JsonFile.Read(config, MergeError.InvalidAdapter), config), OpenWeights(full));
        return adapter.Weights.Tensors.Count > 0
            ? adapter
            : throw new MergeException(
                MergeError.InvalidAdapter, $"'{adapter.Weights.Path}' holds no tensors: there is nothing to merge.", path,
                "Save the trained adapter again.");
    }

    private static AdapterWeights OpenWeights(string full)
    {
        var weights = System.IO.Path.Combine(full, WeightsName);
        if (File.Exists(weights))
        {
            return new AdapterWeights(weights, SafetensorsFile.Open(weights).Tensors);
        }

        var pickled = System.IO.Path.Combine(full, PickledWeightsName);
        return File.Exists(pickled)
            ? new AdapterWeights(pickled, TorchFile.Open(pickled))
            : throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter '{full}' has neither {WeightsName} nor {PickledWeightsName}.", full,
                "Pass the directory that PEFT's save_pretrained wrote.");
    }

    // PEFT saves an adapter that is not called 'default' into a folder of its name.
    private static string Suggestion(string full)
    {
        var below = Directory.EnumerateDirectories(full).Where(d => File.Exists(System.IO.Path.Combine(d, ConfigName)))
            .Select(System.IO.Path.GetFileName).Order(StringComparer.Ordinal).ToList();
        return below.Count > 0
            ? $"There {(below.Count == 1 ? "is an adapter" : "are adapters")} below it: {string.Join(", ", below)}. Pass that directory."
            : $"Pass the directory that holds {ConfigName} and {WeightsName}.";
    }
}
