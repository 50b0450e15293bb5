namespace UnslothMerge.Saving.Parts;

/// <summary>A shard of a model that several workers save: the part that owes it, the length of its header, the names in it.</summary>
internal sealed record PartsShard(string Name, int Part, long HeaderBytes, ImmutableArray<string> Tensors);

/// <summary>What completing a model needs of its plan: the shards, and who owes them. The first worker writes it, with the files beside the
/// weights, into a folder of its own that then gets its name in one step; so the folder is there whole or not at all, and neither the base
/// nor the adapters are needed any more.</summary>
internal sealed record PartsPlan(string Method, int Parts, string? Variant, long Parameters, ImmutableArray<PartsShard> Shards)
{
    public const string FileName = "plan.json";
    public const string FingerprintName = "fingerprint.json";
    public const string FilesName = "files";

    /// <summary>The repository that the shards are sent to; null if they lie on the disk.</summary>
    public string? Repository { get; init; }

    /// <summary>That of a plan of the merge.</summary>
    public static PartsPlan Of(WritePlan plan, string method, int parts) => new(
        method, parts, plan.Variant, plan.Tensors.Sum(t => t.Tensor.View.Count),
        [.. plan.Shards.Zip(PartSplit.Of(plan, parts), (s, part) =>
            new PartsShard(s.Name, part, s.Layout.Header.Length, [.. s.Layout.Names]))]);

    /// <summary>Reads what <see cref="ToJson"/> gave.</summary>
    public static PartsPlan Read(string path)
    {
        try
        {
            var plan = Parse(RegularFile.ReadText(path));

            // Names only: what a plan says must not lead elsewhere.
            return plan.Shards.Select(s => s.Name).Append(plan.Variant ?? "-").FirstOrDefault(n => !ShardIndex.IsPlainName(n)) is { } odd
                ? throw new JsonException($"'{odd}' is no name.") : plan;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException
            or ArgumentException or NullReferenceException or IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidDestination, $"The plan of the parts, '{path}', cannot be read: {e.Message}", path,
                "Save-MergedModel -Restart removes the parts that are there, and begins anew.", e);
        }
    }

    private static PartsPlan Parse(string text)
    {
        var json = JsonNode.Parse(text)!;
        return new PartsPlan((string)json["method"]!, (int)json["parts"]!, (string?)json["variant"], (long)json["parameters"]!,
        [
            .. json["shards"]!.AsObject().Select(s => new PartsShard(s.Key, (int)s.Value!["part"]!, (long)s.Value["header"]!,
                [.. s.Value["tensors"]!.AsArray().Select(t => (string)t!)])),
        ])
        {
            Repository = (string?)json["repository"],
        };
    }

    public string ToJson() => JsonFile.Text(new JsonObject
    {
        ["method"] = Method,
        ["parts"] = Parts,
        ["variant"] = Variant,
        ["parameters"] = Parameters,
        ["repository"] = Repository,
        ["shards"] = new JsonObject(Shards.Select(s => KeyValuePair.Create(s.Name, (JsonNode?)new JsonObject
        {
            ["part"] = s.Part,
            ["header"] = s.HeaderBytes,
            ["tensors"] = new JsonArray([.. s.Tensors.Select(t => (JsonNode?)t)]),
        }))),
    });

    /// <summary>The index, by its name, of a model of several shards that have so many bytes together; null if there is one.</summary>
    public (string Name, string Text)? Index(long shardBytes) => Shards.Length == 1 ? null
        : (ShardIndex.NameFor(Variant), ShardIndex.Text(
            Shards.SelectMany(s => s.Tensors.Select(t => KeyValuePair.Create(t, s.Name))), shardBytes - Shards.Sum(s => s.HeaderBytes),
            Parameters));
}
