namespace UnslothMerge.Adapters;

/// <summary>Which files of an adapter's folder a merge reads or takes over.</summary>
internal static class AdapterFiles
{
    // In place of PEFT's files, or beside them, in the layouts of other trainers.
    private static readonly string[] OtherLayouts =
        ["adapter_model.pt", "adapters.safetensors", "pytorch_lora_weights.safetensors"];

    /// <summary>Chooses from all files of the folder, given by relative paths.</summary>
    public static IEnumerable<string> Choose(IReadOnlyCollection<string> names)
    {
        var weights = new[] { AdapterDirectory.WeightsName, AdapterDirectory.PickledWeightsName, "pytorch_model_fsdp.bin" }
            .FirstOrDefault(names.Contains);
        return names.Where(n => n.Contains('/', StringComparison.Ordinal) ? ModelFiles.IsOfTokenizer(n)
            : TrainedFiles.HoldsTensors(n) ? n == weights || OtherLayouts.Contains(n) || !TrainedFiles.IsOther(n)
            : n == CardText.FileName || ModelFiles.IsOfTokenizer(n)
                || (n.EndsWith(".json", StringComparison.Ordinal) && !TrainedFiles.IsOther(n)));
    }
}
