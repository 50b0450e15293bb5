namespace UnslothMerge.Adapters.Trainers;

/// <summary>NeMo Automodel writes PEFT's files, and beside them what PEFT's config cannot say: experts may have a rank of their own, by
/// which alpha is divided. Source: NeMo Automodel, <c>moe_rank_scaling</c>.</summary>
internal static class NemoAutomodel
{
    /// <summary>The option, in its own config and in what is read of it.</summary>
    public const string RankScaling = "moe_rank_scaling";

    /// <summary>Adds to a config what the file beside it says.</summary>
    public static void Complete(JsonObject config, string directory)
    {
        var path = System.IO.Path.Combine(directory, "automodel_peft_config.json");
        if (File.Exists(path) && JsonFile.Read(path, MergeError.InvalidAdapter).Bool(RankScaling) == true)
        {
            config[RankScaling] = true;
        }
    }
}
