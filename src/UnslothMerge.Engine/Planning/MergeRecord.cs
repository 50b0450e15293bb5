using System.Security.Cryptography;
using UnslothMerge.Adapters;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Planning;

/// <summary>
/// merge.json of a saved model: which base and which adapters are in it, so that the same adapter is not merged twice, and so that the
/// model can be tested. It names files by their hashes and by what they are called on the Hub, never by a local path.
/// </summary>
internal static class MergeRecord
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "merge.json";

    /// <summary>What a save says that did not wait for the disk: no part of the merge.</summary>
    public const string UnsyncedKey = "unsynced";

    // torchtune saves its epochs so: the adapter in its own names beside the merged model.
    private const string TorchtuneName = "adapter_model.pt";

    private const int Samples = 16;
    private const int SampleBytes = 4096;

    /// <summary>The content for a merge.</summary>
    public static JsonObject Of(WritePlan plan, string method)
    {
        var merge = plan.Merge;
        var @base = new JsonObject
        {
            ["id"] = merge.Base.HubId,
            ["commit"] = HubCache.CommitOf(merge.Base.Path),
            ["header_sha256"] = HeaderHash(merge.Base),
            ["sample_sha256"] = SampleHash(merge.Base),
        };
        if (Read(merge.Base.Path) is { } record)
        {
            @base["merge"] = record;
        }

        var json = new JsonObject
        {
            ["version"] = $"UnslothMerge {typeof(MergeRecord).Assembly.GetName().Version!.ToString(3)}",
            ["base"] = @base,
            ["adapters"] = new JsonArray([.. merge.Steps.Select(Of)]),
            ["options"] = new JsonObject { ["method"] = method, ["dtype"] = plan.Config.DType?.TorchName() },
        };
        if (merge.Tensors.Where(t => !t.IsCacheScale).Select(t => t.Ordinal).Except(plan.Tensors.Select(t => t.Tensor.Ordinal)).Any())
        {
            json["options"]!["partial"] = true;
        }

        if (Merges(plan) is { } merges)
        {
            json["merges"] = merges;
        }

        return json;
    }

    /// <summary>The text of the file for a merge.</summary>
    /// <exception cref="MergeException">No later merge, and no test, would read one of its length.</exception>
    public static string Text(WritePlan plan, string method)
    {
        var text = JsonFile.Text(Of(plan, method));
        return text.Length <= Limits.JsonBytes / 2 ? text : throw new MergeException(MergeError.InvalidModel,
            $"With that of its base, the {FileName} of the saved model would have {text.Length} characters; at most "
            + $"{Limits.JsonBytes / 2} are written.", Path.Combine(plan.Merge.Base.Path, FileName), "Move that file away.");
    }

    /// <summary>What a model's record says of its base and adapters otherwise than a merge; empty if it has no record.</summary>
    public static IEnumerable<string> Differences(string directory, MergePlan merge)
    {
        if (Read(directory) is not { } record)
        {
            return [];
        }

        var adapters = (record["adapters"] as JsonArray ?? []).OfType<JsonObject>().ToList();
        return
        [
            .. record["base"] is JsonObject @base && @base.String("header_sha256") == HeaderHash(merge.Base)
                ? Array.Empty<string>() : [$"{FileName} names another base"],
            .. adapters.Select(a => (a.String("sha256"), a.Number("weight")))
                .SequenceEqual(merge.Steps.Select(s => ((string?)HashOf(s.Adapter), (double?)s.Weight)))
                ? Array.Empty<string>() : [$"{FileName} names other adapters or weights"],
        ];
    }

    /// <summary>Refuses an adapter that the base holds already.</summary>
    /// <exception cref="MergeException">It does.</exception>
    public static void RequireUnmerged(ModelDirectory model, AdapterDirectory adapter)
    {
        var why = RealPath.Of(model.Path) == RealPath.Of(adapter.Path) || HasAdapter(model.Path, adapter)
                ? "its folder holds that adapter, so its weights are those of the merged model"
            : Read(model.Path) is { } record && Adapters(record).ToList() is { Count: > 0 } merged && merged.Contains(HashOf(adapter))
                ? $"its {FileName} lists that adapter"
            : null;
        if (why is not null)
        {
            throw new MergeException(
                MergeError.MergedBase, $"The base '{model.Path}' seems to contain the adapter '{adapter.Path}' already: {why}.", model.Path,
                "Pass the model that the adapter was trained on as the base. -AllowMergedBase merges it once more.");
        }
    }

    private static JsonObject Of(AdapterStep step)
    {
        var json = new JsonObject
        {
            ["id"] = HubCache.NameOf(step.Adapter.Path),
            ["commit"] = HubCache.CommitOf(step.Adapter.Path),
            ["bytes"] = step.Adapter.Weights.Tensors[0].File.Length,
            ["sha256"] = HashOf(step.Adapter),
            ["weight"] = step.Weight,
        };
        if (step.Options.Described is { Count: > 0 } options)
        {
            json["options"] = options;
        }

        return json;
    }

    // The number of adapters of each merge, and the strengths of all that was merged so far. Null where there is nothing to say.
    private static JsonArray? Merges(WritePlan plan)
    {
        var strengths = plan.Tensors.ToDictionary(t => t.Tensor.Ordinal, t => t.Tensor.Strength);
        var last = StrengthRules.For(plan.Merge.Tensors, t => strengths.GetValueOrDefault(t.Ordinal, 1));
        return plan.Merge.Earlier.IsEmpty && last.Count == 0 ? null : new JsonArray(
        [
            .. plan.Merge.Earlier.Select(e => Merge(e.Adapters, e.Strength)),
            Merge(plan.Merge.Steps.Length - plan.Merge.Earlier.Sum(e => e.Adapters), last),
        ]);

        static JsonObject Merge(int adapters, IReadOnlyList<StrengthRule> rules)
        {
            var json = new JsonObject { ["adapters"] = adapters };
            if (StrengthRules.ToJson(rules) is { } strength)
            {
                json["strength"] = strength;
            }

            return json;
        }
    }

    /// <summary>A model's record; null if it has none.</summary>
    public static JsonObject? Read(string directory)
    {
        var path = Path.Combine(directory, FileName);
        if (!File.Exists(path))
        {
            return null;
        }

        var record = JsonFile.Read(path, MergeError.InvalidModel);
        record.Remove(UnsyncedKey);
        return record;
    }

    private static bool HasAdapter(string directory, AdapterDirectory adapter)
    {
        var weights = new[] { AdapterDirectory.WeightsName, AdapterDirectory.PickledWeightsName }.Select(n => Path.Combine(directory, n))
            .FirstOrDefault(File.Exists);
        return File.Exists(Path.Combine(directory, TorchtuneName))
            || (weights is not null && StoredFile.Of(weights) is var file && file.Length == adapter.Weights.Tensors[0].File.Length
                && InputFiles.HashOf(file) == HashOf(adapter));
    }

    // Those of the merge, and those that its base was merged of.
    private static IEnumerable<string?> Adapters(JsonObject record) =>
    [
        .. (record["adapters"] as JsonArray ?? []).OfType<JsonObject>().Select(a => a.String("sha256")),
        .. (record["base"] as JsonObject)?["merge"] is JsonObject before ? Adapters(before) : [],
    ];

    /// <summary>The hash of an adapter's weights.</summary>
    public static string HashOf(AdapterDirectory adapter) => adapter.Hash.GetAwaiter().GetResult();

    /// <summary>The hash of names, dtypes and shapes: the same however the tensors are cut into files.</summary>
    public static string HeaderHash(ModelDirectory model)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var tensor in Sorted(model))
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{tensor.Name} {tensor.Type} {tensor.Shape.Text()}\n"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The hash of the middle of some tensors: what tells a model from another of the same shapes.</summary>
    public static string SampleHash(ModelDirectory model)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var files = new InputFiles();
        var tensors = Sorted(model).ToList();
        for (var i = 0; i < Math.Min(Samples, tensors.Count); i++)
        {
            var tensor = tensors[(int)((long)i * tensors.Count / Math.Min(Samples, tensors.Count))];
            var bytes = new byte[Math.Min(SampleBytes, tensor.Length)];
            files.Read(tensor, (tensor.Length - bytes.Length) / 2, bytes);
            hash.AppendData(bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static IEnumerable<StoredTensor> Sorted(ModelDirectory model) =>
        model.Checkpoint.Tensors.OrderBy(t => t.Name, StringComparer.Ordinal);
}
