using System.Runtime.ExceptionServices;
using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving;

/// <summary>
/// The shards of a staging directory that are finished: the fingerprint of the save, and beside it one small file for each shard (length,
/// checksum of what was written, the fingerprint again, its tensors), written once the shard is on the disk. A later save with the same
/// fingerprint takes over every shard that is as its record says.
/// </summary>
internal sealed class ShardJournal(IDisk disk, string staging, Lazy<SaveFingerprint> fingerprint, bool sync)
{
    public const string FolderName = "shards";
    public const string FingerprintName = "fingerprint.json";

    private readonly string _folder = Path.Combine(staging, FolderName);
    private readonly string _model = Path.Combine(staging, ModelSwap.ModelName);

    /// <summary>The fingerprint that a staging directory's journal was begun with; null if there is none.</summary>
    public static SaveFingerprint? FingerprintOf(string staging) =>
        Path.Combine(staging, FingerprintName) is var path && File.Exists(path) ? SaveFingerprint.Read(RegularFile.ReadText(path)) : null;

    /// <summary>Notes a shard that is complete, and on the disk.</summary>
    public void Add(FinishedShard shard)
    {
        if (!Directory.Exists(_folder))
        {
            disk.ReplaceText(Path.Combine(staging, FingerprintName), fingerprint.Value.ToJson(), sync);
            disk.CreateTree(_folder);
        }

        disk.ReplaceText(PathOf(shard.Name), JsonFile.Text(new JsonObject
        {
            ["fingerprint"] = fingerprint.Value.Hash,
            ["bytes"] = shard.Bytes,
            ["crc64"] = $"{shard.Checksum!.Value:x16}",
            ["cloned"] = shard.Cloned,
            ["tensors"] = new JsonObject(shard.Tensors.Select(t => KeyValuePair.Create(t.Tensor.Name, (JsonNode?)new JsonArray(
                Number(t.RelativeChange), Number(t.RelativeError))))),
        }), sync);
    }

    /// <summary>Finds the plan's shards that are finished, in its order, and reads each of them once.</summary>
    public IReadOnlyList<FinishedShard> Find(WritePlan plan, int workers, CancellationToken cancellation)
    {
        var finished = new FinishedShard?[plan.Shards.Length];
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = workers, CancellationToken = cancellation };
        try
        {
            Parallel.For(0, finished.Length, parallel, i => finished[i] = Find(plan.Shards[i], cancellation));
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        return [.. finished.OfType<FinishedShard>()];
    }

    private string PathOf(string shard) => Path.Combine(_folder, shard + ".json");

    private FinishedShard? Find(WriteShard shard, CancellationToken cancellation)
    {
        var path = Path.Combine(_model, shard.Name);
        if (Read(PathOf(shard.Name)) is not { } record || record.String("fingerprint") != fingerprint.Value.Hash
            || FileStatus.Of(path) is not { Kind: FileKind.Regular } status || status.Length != record.Number("bytes")
            || record["tensors"] is not JsonObject tensors || !shard.Tensors.All(t => tensors[t.Tensor.Name] is JsonArray { Count: 2 }))
        {
            return null;
        }

        // The checksum of a clone is that of what was written into it: what it has of the base is read there.
        var (cloned, checksum) = ((long)(record.Number("cloned") ?? 0), Checksum.Of(path, cancellation));
        if (cloned > 0)
        {
            checksum ^= shard.Origin is null ? 0 : Checksum.Of(shard.Origin.Path, shard.OriginRanges, cancellation);
        }

        return record.String("crc64") != $"{checksum:x16}" ? null
            : new FinishedShard(shard.Name, status.Length, checksum, [.. shard.Tensors.Select(t => Result(t, tensors))])
            {
                Cloned = cloned,
            };
    }

    private static TensorResult Result(WriteTensor tensor, JsonNode tensors)
    {
        var (change, error) = (tensors[tensor.Tensor.Name]![0], tensors[tensor.Tensor.Name]![1]);
        return new TensorResult(tensor, tensor.Sink.Outputs[0].Type, tensor.Bytes, Number(change), []) { RelativeError = Number(error) };
    }

    // A record that a loss of power cut short is none.
    private static JsonObject? Read(string path)
    {
        try
        {
            return File.Exists(path) ? JsonNode.Parse(RegularFile.ReadText(path)) as JsonObject : null;
        }
        catch (Exception e) when (e is JsonException or ArgumentException or IOException)
        {
            return null;
        }
    }

    // A change of a tensor of zeros is infinite, which JSON has no number for.
    private static JsonNode? Number(double? value) => value is null || double.IsFinite(value.Value) ? value
        : value.Value.ToString(CultureInfo.InvariantCulture);

    private static double? Number(JsonNode? value) => value is null ? null
        : value.GetValueKind() == JsonValueKind.String ? double.Parse((string)value!, CultureInfo.InvariantCulture) : (double)value;
}
