using UnslothMerge.Hub.Cache;
using UnslothMerge.Hub;

namespace UnslothMerge.Models;

/// <summary>A Hugging Face model directory: its config, its tensors, and the other files that make it a model. Only headers are
/// read.</summary>
internal sealed class ModelDirectory
{
    private ModelDirectory(string path, ModelConfig config, Checkpoint checkpoint)
    {
        Path = path;
        Config = config;
        Checkpoint = checkpoint;
    }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The directory's own name, or <c>org/name</c> in the Hub's cache.</summary>
    public string Name => HubCache.NameOf(Path) ?? System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(Path));

    /// <summary>The content of config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>The tensors.</summary>
    public Checkpoint Checkpoint { get; }

    /// <summary>How a person would name the model: its class, or failing that its directory.</summary>
    public string Title => Config.Architectures.Count > 0 ? Config.Architectures[0] : Config.ModelType ?? Name;

    /// <summary>What it is called on the Hub, if it lies in the Hub's cache or its config says so.</summary>
    public string? HubId => HubCache.NameOf(Path) ?? (HubName.IsOne(Config.NameOrPath) ? Config.NameOrPath : null);

    /// <summary>All that it is called: by its folder or the Hub's cache, and by its config.</summary>
    public IEnumerable<string> Names => new[] { Name, Config.NameOrPath }.OfType<string>();

    /// <summary>The models that it has the weights of, as its card says; none if the card cannot be read, of which a save tells.</summary>
    public IReadOnlyList<string> QuantizedFrom
    {
        get
        {
            try
            {
                return CardText.Read(Path)?.Facts is { } card && card.Values("base_model_relation") is [] or ["quantized"]
                    ? card.Values("base_model") : [];
            }
            catch (MergeException)
            {
                return [];
            }
        }
    }

    /// <summary>Reads the config and all headers of a model directory, some of whose files may be on the Hub yet.</summary>
    public static ModelDirectory Open(string path, RemoteFiles? remote = null)
    {
        var full = HubCache.Resolve(System.IO.Path.GetFullPath(path));
        if (!Directory.Exists(full))
        {
            if (File.Exists(full))
            {
                throw new MergeException(
                    MergeError.InvalidModel, $"'{path}' is a file, not the directory of a model.", path, GivenPath.AdviceForFile(full));
            }

            throw new MergeException(MergeError.PathNotFound, $"The model directory '{path}' does not exist.", path,
                "Pass the local directory of a Hugging Face model (config.json and its safetensors files), or its name on the Hub, "
                + "org/name.");
        }

        var config = System.IO.Path.Combine(full, "config.json");
        if (!File.Exists(config))
        {
            var names = new CheckpointFiles(full, remote ?? RemoteFiles.None).Names;
            throw Checkpoint.NoWeights(full, names, "is not a model: it has no config.json");
        }

        return new ModelDirectory(full, ModelConfig.Read(full), Checkpoint.Open(full, remote));
    }
}
