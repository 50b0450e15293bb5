namespace UnslothMerge.Planning;

/// <summary>
/// Splits tensors into shards as the Hub's own library does: in the order given; a tensor beyond the limit is a shard of its own, and any
/// other closes the current shard when it would tip it over. Source: huggingface_hub 1.29, <c>split_state_dict_into_shards_factory</c>.
/// </summary>
internal static class ShardSplitter
{
    /// <summary>Splits sizes into shards of at most a limit, both in bytes of tensor data; gives the indices of each.</summary>
    public static IReadOnlyList<IReadOnlyList<int>> Split(IReadOnlyList<long> sizes, long limit)
    {
        var shards = new List<IReadOnlyList<int>>();
        var current = new List<int>();
        var bytes = 0L;
        for (var i = 0; i < sizes.Count; i++)
        {
            if (sizes[i] > limit)
            {
                // The current shard stays open: the next small tensor still joins it.
                shards.Add([i]);
                continue;
            }

            if (bytes + sizes[i] > limit)
            {
                shards.Add(current);
                current = [];
                bytes = 0;
            }

            current.Add(i);
            bytes += sizes[i];
        }

        if (current.Count > 0)
        {
            shards.Add(current);
        }

        return shards;
    }

    /// <summary>The file name of a shard, counted from 0. The variant is that of weights that are not the model's only ones: <c>fp16</c>
    /// for <c>model.fp16.safetensors</c>.</summary>
    public static string FileName(int index, int count, string? variant = null)
    {
        var name = variant is null ? "model" : $"model.{variant}";
        return count == 1 ? $"{name}.safetensors" : $"{name}-{index + 1:D5}-of-{count:D5}.safetensors";
    }
}
