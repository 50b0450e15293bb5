using System.Security.Cryptography;
using UnslothMerge.Hub.Cache;
using UnslothMerge.Models;

namespace UnslothMerge.Planning;

/// <summary>
/// All that the bytes of a save's shards depend on, as a hash for each part of it. Two saves with equal fingerprints write equal shards, so
/// that one may go on where another was interrupted.
/// </summary>
internal sealed class SaveFingerprint
{
    private readonly SortedDictionary<string, string> _parts;

    private SaveFingerprint(SortedDictionary<string, string> parts)
    {
        _parts = parts;
        Hash = HashOf(parts.SelectMany(p => new[] { p.Key, p.Value }));
    }

    /// <summary>The hash of all parts.</summary>
    public string Hash { get; }

    /// <summary>That of a plan whose <see cref="MergeRecord"/> is made already, on a device. The files' times are part of it: what
    /// was changed under the same header is another input.</summary>
    public static SaveFingerprint Of(WritePlan plan, JsonObject record, string device)
    {
        var merge = plan.Merge;
        var files = merge.InputFiles.Concat(plan.Tensors.SelectMany(Inputs).Select(t => t.File)).Distinct()
            .OrderBy(f => f.Path, StringComparer.Ordinal).ToList();
        return new SaveFingerprint(new(StringComparer.Ordinal)
        {
            ["version"] = (string)record["version"]!,
            ["base"] = HashOf(merge.Base.Checkpoint.Tensors.Select(Text).Concat(files.Select(f => HubCache.HashOf(f.Path) ?? ""))
                .Prepend(record["base"]!.ToJsonString())),
            ["adapters"] = HashOf(merge.Steps.Select(s => s.Adapter.Config.Json.ToJsonString())
                .Concat(merge.Steps.SelectMany(s => s.Adapter.Tensors).Select(Text)).Prepend(record["adapters"]!.ToJsonString())),
            ["tensors"] = HashOf(plan.Tensors.SelectMany(What)),
            ["format"] = HashOf(plan.Shards.Select(s => s.Name + Convert.ToHexString(SHA256.HashData(s.Layout.Header)))
                .Prepend(plan.Config.ToJson().ToJsonString())),
            ["device"] = device,
            ["files"] = HashOf(files.Select(f =>
                string.Create(CultureInfo.InvariantCulture, $"{f.Path} {f.Length} {f.Status.Modified:O} {f.Status.Changed:O}"))),
        });
    }

    /// <summary>Reads what <see cref="ToJson"/> gave; null if that is damaged.</summary>
    public static SaveFingerprint? Read(string text)
    {
        try
        {
            var parts = JsonSerializer.Deserialize<Dictionary<string, string>>(text);
            return parts is null ? null : new SaveFingerprint(new(parts, StringComparer.Ordinal));
        }
        catch (JsonException)
        {
            return null;
        }
    }

    public string ToJson() => JsonFile.Text(new JsonObject(_parts.Select(p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value))));

    /// <summary>The names of the parts that differ.</summary>
    public IEnumerable<string> Differences(SaveFingerprint other) =>
        _parts.Keys.Union(other._parts.Keys).Where(k => _parts.GetValueOrDefault(k) != other._parts.GetValueOrDefault(k)).Order();

    private static IEnumerable<StoredTensor> Inputs(WriteTensor tensor) =>
        tensor.Tensor.Source.Inputs.Concat(tensor.Tensor.Terms.SelectMany(t => t.Term.Inputs));

    private static IEnumerable<string> What(WriteTensor tensor) => tensor.Tensor.Terms
        .Select(t => string.Create(CultureInfo.InvariantCulture, $"{t.Term.Kind} {t.Term.Scaling:R} {t.Weight:R} {t.Adapter}"))
        .Concat(Inputs(tensor).Select(Text))
        .Prepend($"{tensor.Tensor.Name} {tensor.Tensor.Action} {tensor.Sink.Format} {tensor.Verbatim is null}");

    private static string Text(StoredTensor tensor) =>
        $"{tensor.File.Name} {tensor.Name} {tensor.Type} {tensor.Shape.Text()} {tensor.Offset} {tensor.Length}";

    private static string HashOf(IEnumerable<string> lines)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var line in lines)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(line));
            hash.AppendData([0]);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
