using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Execution;

namespace UnslothMerge.Saving;

/// <summary>Saves the adapter by itself, with the tokenizer: the method <c>lora</c>.</summary>
internal static class AdapterSaver
{
    private static readonly Dictionary<string, string> Metadata = new() { ["format"] = "pt" };

    /// <summary>Writes a plan's one adapter: its tensors in every bit, under the names that PEFT gives them today, and its config with
    /// every key.</summary>
    /// <returns>What the file holds.</returns>
    public static IReadOnlyList<TensorRecord> Save(MergePlan plan, ModelExtras extras, Destination destination, bool sync,
        IDisk? disk = null)
    {
        try
        {
            KnownHashes.Require(plan, extras.Copied.Values);
            return Write(plan.Steps[0].Adapter, extras, destination, sync, disk ?? SystemDisk.Instance);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw destination.NotWritten(e);
        }
    }

    /// <summary>Checks that a plan is one adapter as it is.</summary>
    public static void RequireOneAdapter(MergePlan plan)
    {
        if (plan.Steps is not [{ Weight: 1 }])
        {
            throw new MergeException(
                MergeError.InvalidOption,
                $"The method lora saves one adapter as it is, but " +
                    (plan.Steps.Length == 1 ? $"its weight is {plan.Steps[0].Weight}." : $"the merge has {plan.Steps.Length} adapters."),
                "Method",
                "Use merged_16bit, or merge one adapter with the weight 1.");
        }

        if (plan.Tensors.SelectMany(t => t.Terms).Select(t => t.Term).OfType<CombinedTerm>().FirstOrDefault() is { } combined)
        {
            throw new MergeException(MergeError.InvalidOption,
                $"The method lora saves one adapter as it is, but the merge thins it out by {combined.Description}.", "Method",
                "Use merged_16bit, or merge without a combination type.");
        }
    }

    private static TensorRecord[] Write(AdapterDirectory adapter, ModelExtras extras, Destination destination, bool sync, IDisk disk)
    {
        // A file that has the names of today is copied as it is; a raw dump, or a pickle, becomes one.
        var weights = adapter.Weights;
        var names = Names(adapter);
        var tensors = weights.Tensors.Where(t => names.ContainsKey(t.Name)).ToList();
        var layout = adapter.IsAsSaved && tensors.Count == weights.Tensors.Count && names.All(n => n.Key == n.Value)
            ? null : new ShardLayout(tensors.Select(t => new TensorSpec(names[t.Name], t.Type, t.Shape)), Metadata);
        var bytes = layout?.Length ?? new FileInfo(weights.Path).Length;
        var files = layout is null ? new Dictionary<string, string> { [AdapterDirectory.WeightsName] = weights.Path } : [];
        var config = Path.Combine(adapter.Path, AdapterDirectory.ConfigName);
        var keepsConfig = File.Exists(config)
            && JsonNode.DeepEquals(JsonFile.Read(config, MergeError.InvalidAdapter), adapter.Config.Json);
        if (keepsConfig)
        {
            files[AdapterDirectory.ConfigName] = config;
        }

        foreach (var trained in adapter.Trained.SelectMany(t =>
            t.MtpLayers is null ? [t.Path] : new[] { t.Path, Path.ChangeExtension(t.Path, ".json") }))
        {
            files[Path.GetFileName(trained)] = trained;
        }

        CarriedFiles.RequireReadable(files);
        destination.RequireRoom(bytes);
        using var staging = StagingDirectory.Create(destination, disk);
        staging.Clear();
        if (layout is not null)
        {
            Convert(tensors, names, layout, Path.Combine(staging.Path, AdapterDirectory.WeightsName), disk);
        }

        CarriedFiles.Copy(files, staging.Path, disk);
        if (!keepsConfig)
        {
            disk.WriteText(Path.Combine(staging.Path, AdapterDirectory.ConfigName), JsonFile.Text(adapter.Config.Json));
        }

        extras.Write(staging.Path, disk);
        if (sync)
        {
            disk.FlushTree(staging.Path);
        }

        InputFiles.RequireUnchanged(adapter.Weights.Tensors.Select(t => t.File).Distinct());
        staging.Land(sync);
        return [.. tensors.Select(t => new TensorRecord(
            names[t.Name], nameof(TensorAction.Copy), t.Type.ToString(), t.Type.ToString(), t.Shape, t.Length, TensorFigures.None))];
    }

    private static Dictionary<string, string> Names(AdapterDirectory adapter)
    {
        var all = adapter.Weights.Tensors.Select(t => t.Name).ToList();
        var names = all.Except(AdapterNames.Superseded(all)).ToDictionary(n => n, AdapterNames.Saved, StringComparer.Ordinal);
        return names.GroupBy(n => n.Value, n => n.Key, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1) is { } same
            ? throw new MergeException(
                MergeError.InvalidAdapter,
                $"'{adapter.Weights.Path}' holds {same.Count()} tensors that would be '{same.Key}': {string.Join(", ", same)}.",
                adapter.Path, "Save one adapter at a time, with PEFT's save_pretrained.")
            : names;
    }

    private static void Convert(
        List<StoredTensor> tensors, Dictionary<string, string> names, ShardLayout layout, string path, IDisk disk)
    {
        using var files = new InputFiles(disk: disk);
        using var file = disk.Create(path, layout.Length);
        layout.Header.Write((bytes, at) => disk.Write(file, bytes, at));
        var buffer = new byte[ExecutionPlan.CopyBytes];
        foreach (var tensor in tensors)
        {
            var offset = layout.OffsetOf(names[tensor.Name]);
            for (var start = 0L; start < tensor.Length; start += buffer.Length)
            {
                var bytes = buffer.AsSpan(0, (int)Math.Min(buffer.Length, tensor.Length - start));
                files.Read(tensor, start, bytes);
                disk.Write(file, bytes, offset + start);
            }
        }

        disk.Close(file);
    }
}
