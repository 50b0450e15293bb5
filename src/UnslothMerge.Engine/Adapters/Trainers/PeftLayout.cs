using UnslothMerge.Pickle;

namespace UnslothMerge.Adapters.Trainers;

/// <summary>What PEFT's save_pretrained writes, and with it Unsloth, TRL, axolotl, LLaMA-Factory and ms-swift: also the folder of one of
/// their checkpoints, in which optimizer states lie beside it. FSDP leaves the same tensors in a file of its own.</summary>
internal sealed class PeftLayout : AdapterLayout
{
    private static readonly string[] WeightsNames =
        [AdapterDirectory.WeightsName, AdapterDirectory.PickledWeightsName, "pytorch_model_fsdp.bin"];

    public override AdapterContent? Read(string directory)
    {
        if (Config(directory) is not { } config)
        {
            return null;
        }

        var weights = Weights(directory) ?? throw new MergeException(
            MergeError.InvalidAdapter, $"The adapter '{directory}' has neither {WeightsNames[0]} nor {WeightsNames[1]}{Parts(directory)}.",
            directory, "Pass the directory that PEFT's save_pretrained wrote.");
        var converted = MegatronBridge.Convert(weights.Tensors);
        NemoAutomodel.Complete(config, directory);
        return new AdapterContent(config, weights with { Tensors = converted ?? weights.Tensors }, converted is null);
    }

    /// <summary>The weights of a folder under PEFT's names; null if it has none.</summary>
    public static AdapterWeights? Weights(string directory) =>
        WeightsNames.Select(n => System.IO.Path.Combine(directory, n)).FirstOrDefault(File.Exists) is not { } path ? null
            : new AdapterWeights(path, path.EndsWith(".bin", StringComparison.Ordinal)
                ? TorchFile.Open(path)
                : SafetensorsFile.Open(path).Tensors);

    private static string Parts(string directory) =>
        Directory.EnumerateFiles(directory, "*.distcp", AdapterDirectory.Everywhere).Any()
            ? ", only the parts of a distributed checkpoint (.distcp): join them with `accelerate merge-weights`"
            : Directory.EnumerateDirectories(directory, "global_step*").Any()
            ? ", only DeepSpeed's parts: join them with its zero_to_fp32.py"
            : "";
}
