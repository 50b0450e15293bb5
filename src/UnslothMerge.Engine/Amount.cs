namespace UnslothMerge;

/// <summary>Numbers of things as people write them.</summary>
internal static class Amount
{
    /// <summary>A number and its noun: <c>1 shard</c>, <c>2 shards</c>.</summary>
    public static string Text(long count, string noun) => $"{count} {noun}{(count == 1 ? "" : "s")}";
}
