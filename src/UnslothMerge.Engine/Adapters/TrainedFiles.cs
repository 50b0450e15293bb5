using System.IO.Enumeration;
using UnslothMerge.Pickle;

namespace UnslothMerge.Adapters;

/// <summary>A file of whole tensors beside an adapter. Names are those of the running model, or of the checkpoint.</summary>
/// <param name="MtpLayers">The layers of the multi-token prediction head that it holds; null if it holds none.</param>
internal sealed record TrainedFile(string Path, IReadOnlyList<StoredTensor> Tensors, int? MtpLayers);

/// <summary>What trainers save beside an adapter because they trained it whole: <c>non_lora_state_dict.bin</c> (Qwen-VL),
/// <c>non_lora_trainables.bin</c> (LLaVA), <c>vit.safetensors</c> (ms-swift), <c>mtp_head.safetensors</c> (Unsloth). Every file that can
/// hold tensors and is none of the table's is one of them, whatever its name: it is merged, or the adapter is refused.</summary>
internal static class TrainedFiles
{
    private const string MtpHead = "mtp_head";

    private static readonly string[] TensorFiles =
        ["*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.npz", "*.h5", "*.msgpack", "*.distcp"];

    // The adapter itself, other states and forms of it, whole models, and what only training goes on with.
    private static readonly string[] Others =
    [
        "adapter_model.*", "adapters.safetensors", "*_adapters.safetensors", "ggml-adapter-model.bin", "pytorch_lora_weights.safetensors",
        "model.safetensors", "model.*.safetensors", "model-*.safetensors", "pytorch_model*.bin", "consolidated*", "training_args.bin",
        "optimizer*", "scheduler*", "scaler*", "sampler*", "rng_state*", "random_states*", "dl_state*", "recipe_state*", "trainer_state*",
    ];

    /// <summary>The files of a directory, but for the adapter's own.</summary>
    /// <exception cref="MergeException">One cannot be read.</exception>
    public static IReadOnlyList<TrainedFile> Of(string directory, string adapter) =>
    [
        .. Directory.EnumerateFiles(directory).Where(f => f != adapter).Order(StringComparer.Ordinal)
            .Where(f => HoldsTensors(f) && !IsOther(f)).Select(Open),
    ];

    /// <summary>True if a name is that of a file that may hold tensors.</summary>
    public static bool HoldsTensors(string name) => Matches(name, TensorFiles);

    /// <summary>True if a name is that of another state or form, or of what only training goes on with.</summary>
    public static bool IsOther(string name) => Matches(name, Others);

    private static TrainedFile Open(string path)
    {
        var extension = Path.GetExtension(path).ToLowerInvariant();
        var tensors = extension switch
        {
            ".safetensors" => SafetensorsFile.Open(path).Tensors,
            ".bin" or ".pt" or ".pth" => TorchFile.Open(path),
            _ => throw new MergeException(
                MergeError.InvalidAdapter, $"'{path}' lies in the adapter's folder and may hold trained weights, but cannot be read.", path,
                "Save it as safetensors, or move it out of the folder if the merged model does not need it."),
        };
        if (Path.GetFileName(path) != MtpHead + extension)
        {
            return new TrainedFile(path, tensors, null);
        }

        // The names lack what the checkpoint puts before them.
        var config = JsonFile.Read(Path.ChangeExtension(path, ".json"), MergeError.InvalidAdapter);
        var prefix = config.String("prefix") ?? "mtp.";
        return new TrainedFile(path, [.. tensors.Select(t => t with { Name = prefix + t.Name })], (int?)config.Number("num_layers") ?? 1);
    }

    private static bool Matches(string path, string[] patterns) =>
        patterns.Any(p => FileSystemName.MatchesSimpleExpression(p, Path.GetFileName(path)));
}
