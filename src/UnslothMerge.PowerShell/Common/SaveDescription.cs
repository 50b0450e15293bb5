using UnslothMerge.Adapters;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Common;

/// <summary>A file that a save will write, its length where it is known before, and what it is.</summary>
internal sealed record DescribedFile(string Name, long? Bytes, string What);

/// <summary>Describes a save: in one line for -Confirm and -Verbose, per file for -WhatIf. The reasons say why matrices of a quantized
/// model stay in 16 bits, one a line.</summary>
internal sealed record SaveDescription(string Summary, IReadOnlyList<DescribedFile> Files, IReadOnlyList<string> Reasons)
{
    /// <summary>What is downloaded before.</summary>
    private string Downloads { get; init; } = "";

    /// <summary>Describes a model.</summary>
    public static SaveDescription OfModel(WritePlan plan, string method, ModelExtras extras)
    {
        var tensors = plan.Tensors.ToList();
        var files = plan.Shards.Select(s =>
            new DescribedFile(s.Name, s.Layout.Length,
                $"{Amount.Text(s.Tensors.Length, "tensor")}, {s.Tensors.Count(t => t.Tensor.IsChanged)} changed")).ToList();
        if (plan.Shards.Length > 1)
        {
            files.Add(new DescribedFile(Safetensors.ShardIndex.NameFor(plan.Variant), null, "which shard holds which tensor"));
        }

        files.AddRange(Extras(extras));
        var quantized = plan.Layers is { All: var all }
            ? $"{all.Count(l => l.Kept is null)} matrices quantized and {all.Count(l => l.Kept is not null)} in 16 bits, " : "";
        return new SaveDescription(
            $"Write {method}{(plan.Merge.Steps.Length == 0 ? " of the base alone, without an adapter" : "")}: "
            + $"{Amount.Text(plan.Shards.Length, "shard")}, {tensors.Count} tensors "
            + $"({tensors.Count(t => t.Tensor.IsChanged)} changed), {ByteSize.Text(plan.Bytes)}, {quantized}config.json, "
            + $"{Amount.Text(extras.Copied.Count, "file")} carried over",
            files,
            [.. plan.Layers?.Reasons ?? []])
        {
            Downloads = DownloadText.Text(plan.Merge),
        };
    }

    /// <summary>Describes an adapter that is saved by itself.</summary>
    public static SaveDescription OfAdapter(MergePlan plan, ModelExtras extras)
    {
        var adapter = plan.Steps[0].Adapter;
        return new SaveDescription(
            $"Write lora: the adapter, {Amount.Text(extras.Copied.Count, "file")} carried over",
            [
                new DescribedFile(
                    AdapterDirectory.WeightsName, new FileInfo(adapter.Weights.Path).Length,
                    Amount.Text(adapter.Weights.Tensors.Count, "tensor")),
                Copied(AdapterDirectory.ConfigName, Path.Combine(adapter.Path, AdapterDirectory.ConfigName)),
                .. Extras(extras),
            ],
            []);
    }

    /// <summary>The summary and one line per file.</summary>
    public string Text(Destination destination, string place)
    {
        var width = Files.Max(f => f.Name.Length);
        var lines = Files.Select(f => $"\n  {f.Name.PadRight(width)}  {(f.Bytes is { } b ? ByteSize.Text(b) : ""),8}  {f.What}");
        var reasons = Reasons.Select(r => $"\n  in 16 bits: {r}");
        return $"Performing the operation \"{Summary}\" on target \"{place}\"."
            + $"{string.Concat(lines)}{string.Concat(reasons)}{Downloads}{Replaced(destination)}";
    }

    /// <summary>The question of -Confirm.</summary>
    public string Question(Destination destination, string place) => $"{Summary}, to '{place}'?{Downloads}{Replaced(destination)}";

    private static string Replaced(Destination destination) =>
        destination.Exists && Directory.EnumerateFileSystemEntries(destination.Path).Any()
            ? $"\nThe model that is at '{destination.Given}' is replaced."
            : "";

    private static IEnumerable<DescribedFile> Extras(ModelExtras extras) =>
    [
        .. extras.Planned().Select(f =>
            new DescribedFile(f.Name, f.Text is null ? null : System.Text.Encoding.UTF8.GetByteCount(f.Text),
                f.Name == ModelCard.FileName ? "model card" : "of the merged model")),
        .. extras.Copied.Select(f => Copied(f.Key, f.Value)),
    ];

    private static DescribedFile Copied(string name, string path) =>
        new(name, new FileInfo(path).Length, $"copied from {Path.GetDirectoryName(path)}");
}
