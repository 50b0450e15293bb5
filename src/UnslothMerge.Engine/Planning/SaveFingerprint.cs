using System.Security.Cryptography;
using UnslothMerge.Hub.Cache;

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
        var files = merge.InputFiles.Concat(plan.Tensors.SelectMany(t => t.Inputs).Select(t => t.File)).Distinct()
            .OrderBy(f => f.Path, StringComparer.Ordinal).ToList();
        return new SaveFingerprint(new(StringComparer.Ordinal)
        {
            ["version"] = (string)record["version"]!,
            ["base"] = HashOf(merge.Base.Checkpoint.Tensors.Select(Text).Concat(files.Select(f => HubCache.HashOf(f.Path) ?? ""))
                .Prepend(record["base"]!.ToJsonString())),
            ["adapters"] = Adapters(merge, record),
            ["tensors"] = HashOf(plan.Tensors.SelectMany(What)),
            ["format"] = Format(plan),
            ["device"] = device,
            ["files"] = HashOf(files.Select(f =>
                string.Create(CultureInfo.InvariantCulture, $"{f.Path} {f.Length} {f.Status.Modified:O} {f.Status.Changed:O}"))),
        });
    }

    /// <summary>That of a plan that several machines save, each with its own copies of the inputs or names for them: without paths and
    /// times. The hashes of the files beside the weights are part of it, since any of the machines may be the one to write them; and the
    /// repository that shards are sent to.</summary>
    public static SaveFingerprint Shared(
        WritePlan plan, JsonObject record, string device, IEnumerable<KeyValuePair<string, string>> beside, string? repository)
    {
        var (merge, @base) = (plan.Merge, record["base"]!);
        var parts = new SortedDictionary<string, string>(StringComparer.Ordinal)
        {
            ["version"] = (string)record["version"]!,
            ["name of the base"] = $"{@base["id"] ?? "none"} {@base["commit"] ?? "none"}",
            ["headers of the base"] = HashOf(merge.Base.Checkpoint.Tensors.Select(Text)
                .Concat(merge.Base.Checkpoint.Tensors.Select(t => t.File).Distinct().Select(f => $"{f.Name} {f.Length}"))),
            ["values of the base"] = (string)@base["sample_sha256"]!,
            ["adapters"] = Adapters(merge, record),
            ["strengths and tensors"] = HashOf(plan.Tensors.SelectMany(What)),
            ["format and shards"] = Format(plan),
            ["device"] = device,
        };
        if (repository is not null)
        {
            parts["repository on the Hub"] = repository;
        }

        foreach (var (name, hash) in beside.Where(f => f.Key != MergeRecord.FileName))
        {
            parts[name] = hash;
        }

        return new SaveFingerprint(parts);
    }

    /// <summary>Reads a file with what <see cref="ToJson"/> gave; null if it is not there, or damaged.</summary>
    public static SaveFingerprint? Read(string path)
    {
        try
        {
            var parts = JsonSerializer.Deserialize<Dictionary<string, string?>>(RegularFile.ReadText(path));
            return parts is null || parts.ContainsValue(null) ? null
                : new SaveFingerprint(new(parts.ToDictionary(p => p.Key, p => p.Value!), StringComparer.Ordinal));
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    public string ToJson() => JsonFile.Text(new JsonObject(_parts.Select(p => KeyValuePair.Create(p.Key, (JsonNode?)p.Value))));

    /// <summary>The names of the parts that differ.</summary>
    public IEnumerable<string> Differences(SaveFingerprint other) =>
        _parts.Keys.Union(other._parts.Keys).Where(k => _parts.GetValueOrDefault(k) != other._parts.GetValueOrDefault(k)).Order();

    /// <summary>What differs, with the values where a person can read them: here, and there.</summary>
    public IEnumerable<string> Described(SaveFingerprint other) => Differences(other).Select(k =>
        (_parts.GetValueOrDefault(k), other._parts.GetValueOrDefault(k)) switch
        {
            ({ } here, { } there) when IsText(here) && IsText(there) => $"{k} ('{here}' here, '{there}' there)",
            (null, _) => $"{k} (only there)",
            (_, null) => $"{k} (only here)",
            _ => k,
        });

    private static bool IsText(string value) => value.Length != 2 * SHA256.HashSizeInBytes;

    private static string Adapters(MergePlan merge, JsonObject record) =>
        HashOf(merge.Steps.Select(s => s.Adapter.Config.Json.ToJsonString())
            .Concat(merge.Steps.SelectMany(s => s.Adapter.Tensors).Select(Text)).Prepend(record["adapters"]!.ToJsonString()));

    private static string Format(WritePlan plan) =>
        HashOf(plan.Shards.Select(s => s.Name + Convert.ToHexString(s.Layout.Header.Hash))
            .Prepend(plan.Config.ToJson().ToJsonString()));

    private static IEnumerable<string> What(WriteTensor tensor) => tensor.Tensor.Terms
        .Select(t => string.Create(CultureInfo.InvariantCulture, $"{t.Term.Kind} {t.Term.Scaling:R} {t.Weight:R} {t.Adapter}"))
        .Concat(tensor.Inputs.Select(Text))
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
