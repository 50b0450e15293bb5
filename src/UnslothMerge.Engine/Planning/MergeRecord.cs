using System.Security.Cryptography;
using UnslothMerge.Adapters;
using UnslothMerge.IO;
using UnslothMerge.Models;

namespace UnslothMerge.Planning;

/// <summary>
/// merge.json of a saved model: which base and which adapters are in it, so that the same adapter is not merged twice. It names files by
/// their hashes and by what they are called on the Hub, never by a local path.
/// </summary>
internal static class MergeRecord
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "merge.json";

    // torchtune saves its epochs so: the adapter in its own names beside the merged model.
    private const string TorchtuneName = "adapter_model.pt";

    /// <summary>The content for a merge.</summary>
    public static JsonObject Of(WritePlan plan, string method)
    {
        var merge = plan.Merge;
        var @base = new JsonObject
        {
            ["id"] = merge.Base.HubId,
            ["commit"] = HubCache.CommitOf(merge.Base.Path),
            ["header_sha256"] = Fingerprint(merge.Base),
        };
        if (Read(merge.Base.Path) is { } record)
        {
            @base["merge"] = record;
        }

        return new JsonObject
        {
            ["version"] = $"UnslothMerge {typeof(MergeRecord).Assembly.GetName().Version!.ToString(3)}",
            ["base"] = @base,
            ["adapters"] = new JsonArray([.. merge.Steps.Select(Of)]),
            ["options"] = new JsonObject { ["method"] = method, ["dtype"] = plan.Config.DType?.TorchName() },
        };
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
            .. record["base"] is JsonObject @base && @base.String("header_sha256") == Fingerprint(merge.Base)
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
            ["sha256"] = HashOf(step.Adapter),
            ["weight"] = step.Weight,
        };
        if (step.Options.Described is { Count: > 0 } options)
        {
            json["options"] = options;
        }

        return json;
    }

    private static JsonObject? Read(string directory)
    {
        var path = Path.Combine(directory, FileName);
        return File.Exists(path) ? JsonFile.Read(path, MergeError.InvalidModel) : null;
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

    private static string HashOf(AdapterDirectory adapter) => adapter.Hash.GetAwaiter().GetResult();

    // The same for the same tensors, however they are cut into files.
    private static string Fingerprint(ModelDirectory model)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var tensor in model.Checkpoint.Tensors.OrderBy(t => t.Name, StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{tensor.Name} {tensor.Type} {tensor.Shape.Text()}\n"));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
