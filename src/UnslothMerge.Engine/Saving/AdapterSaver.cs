using UnslothMerge.Adapters;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving;

/// <summary>Saves the adapter by itself, with the tokenizer: the method <c>lora</c>.</summary>
public static class AdapterSaver
{
    /// <summary>Writes a plan's one adapter: its tensors in every bit, its config with every key.</summary>
    /// <returns>The file of the adapter's weights.</returns>
    /// <exception cref="MergeException">The plan is more than one plain adapter, or cannot be written; nothing has landed.</exception>
    public static SavedShard Save(MergePlan plan, Destination destination, bool sync)
    {
        if (plan.Steps is not [{ Weight: 1 } step])
        {
            throw new MergeException(
                MergeError.InvalidOption,
                $"The method lora saves one adapter as it is, but {(plan.Steps.Length == 1 ? $"its weight is {plan.Steps[0].Weight}" : $"the merge has {plan.Steps.Length} adapters")}.",
                "Method",
                "Use merged_16bit, or merge one adapter with the weight 1.");
        }

        try
        {
            return Write(plan, step.Adapter, destination, sync);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    private static SavedShard Write(MergePlan plan, AdapterDirectory adapter, Destination destination, bool sync)
    {
        var weights = Path.Combine(adapter.Path, AdapterDirectory.WeightsName);
        var files = new Dictionary<string, string>(CarriedFiles.Tokenizer(plan.Base.Path, [adapter.Path]), StringComparer.Ordinal)
        {
            [AdapterDirectory.WeightsName] = weights,
            [AdapterDirectory.ConfigName] = Path.Combine(adapter.Path, AdapterDirectory.ConfigName),
        };
        CarriedFiles.RequireReadable(files);
        DiskSpace.Require(new FileInfo(weights).Length, destination);
        using var staging = StagingDirectory.Create(destination);
        CarriedFiles.Copy(files, staging.Path);
        File.WriteAllText(Path.Combine(staging.Path, ModelCard.FileName), ModelCard.Adapter(plan, Path.GetFileName(destination.Path), ModelCard.LicenseOf(plan.Base.Path)));
        if (sync)
        {
            Durable.FlushTree(staging.Path);
        }

        staging.Land();
        return new SavedShard(Path.Combine(destination.Path, AdapterDirectory.WeightsName), new FileInfo(weights).Length, []);
    }
}
