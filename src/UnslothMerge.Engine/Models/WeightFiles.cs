namespace UnslothMerge.Models;

/// <summary>Which files of a model hold its tensors: those that an index lists, or one or several by their names.</summary>
/// <param name="Index">The index; null if the names say it all.</param>
/// <param name="Files">The files; none if the index lists them.</param>
internal sealed partial record WeightFiles(string? Index, IReadOnlyList<string> Files)
{
    private static readonly (string Stem, string Extension)[] Forms = [("model", "safetensors"), ("pytorch_model", "bin")];

    /// <summary>Chooses as transformers does: safetensors before PyTorch's, one file before shards, no variant before one. Null if there
    /// are none.</summary>
    /// <param name="directory">The directory, for messages.</param>
    /// <param name="names">All its files, without those of other directories.</param>
    public static WeightFiles? Choose(string directory, IReadOnlyCollection<string> names)
    {
        foreach (var (stem, extension) in Forms)
        {
            var single = $"{stem}.{extension}";
            if (names.Contains(single))
            {
                return new WeightFiles(null, [single]);
            }

            if (names.Contains($"{single}.index.json"))
            {
                return new WeightFiles($"{single}.index.json", []);
            }

            if (Variant(directory, names, stem, extension) is { } variant)
            {
                return variant;
            }

            if (names.Select(n => ShardName().Match(n)).FirstOrDefault(m => m.Success && m.Groups["stem"].Value == stem) is { } shard)
            {
                var count = shard.Groups["count"].Value;
                var numbers = Enumerable.Range(1, int.Parse(count, CultureInfo.InvariantCulture));
                return new WeightFiles(null, [.. numbers.Select(i => $"{stem}-{i:d5}-of-{count}.{extension}")]);
            }
        }

        return null;
    }

    // model.fp16.safetensors, or model.safetensors.index.fp16.json beside model.fp16-00001-of-00002.safetensors.
    private static WeightFiles? Variant(string directory, IReadOnlyCollection<string> names, string stem, string extension)
    {
        var pattern = $@"\A{stem}\.({extension}\.index\.(?<name>[\w-]+)\.json|(?<name>[\w-]+)(?<!-of-\d{{5}})\.{extension})\z";
        var variants = names.Select(n => Regex.Match(n, pattern, RegexOptions.ExplicitCapture)).Where(m => m.Success)
            .OrderBy(m => m.Groups["name"].Value, StringComparer.Ordinal).ToList();
        return variants.Count switch
        {
            0 => null,
            1 when variants[0].Value is var name =>
                name.EndsWith(".json", StringComparison.Ordinal) ? new WeightFiles(name, []) : new WeightFiles(null, [name]),
            _ => throw new MergeException(
                MergeError.InvalidModel,
                $"'{directory}' has no {stem}.{extension}, but several variants of it: "
                + $"{string.Join(", ", variants.Select(v => v.Groups["name"].Value))}.",
                directory,
                "Keep one variant, or rename its files to those of a model without a variant."),
        };
    }

    [GeneratedRegex(@"\A(?<stem>.+)-\d{5}-of-(?<count>\d{5})\.\w+\z", RegexOptions.ExplicitCapture)]
    private static partial Regex ShardName();
}
