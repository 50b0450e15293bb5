namespace UnslothMerge.Adapters;

/// <summary>An adapter as PEFT would have saved it: its config, its weights, and whether that is what the folder holds.</summary>
internal sealed record AdapterContent(JsonObject Config, AdapterWeights Weights, bool IsAsSaved);

/// <summary>How a trainer leaves an adapter in a folder.</summary>
internal abstract class AdapterLayout
{
    /// <summary>Reads the folder of such a trainer; null for any other folder.</summary>
    public abstract AdapterContent? Read(string directory);

    /// <summary>Corrects what only the base tells: names, the order of rows.</summary>
    public virtual AdapterContent Fit(AdapterContent content, ModelDirectory model) => content;

    protected static JsonObject? Config(string directory) =>
        System.IO.Path.Combine(directory, AdapterDirectory.ConfigName) is var path && File.Exists(path)
            ? JsonFile.Read(path, MergeError.InvalidAdapter)
            : null;

    protected static AdapterContent Content(JsonObject config, string path, IEnumerable<StoredTensor> tensors) =>
        new(config, new AdapterWeights(path, [.. tensors]), IsAsSaved: false);
}
