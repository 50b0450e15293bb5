namespace UnslothMerge.Planning;

/// <summary>
/// Which part writes which shards of a plan. A part's shards follow each other, since neighbours are made of the same files of the base. Of
/// all such splits it is one whose costliest part, by the bytes read and written, costs least.
/// </summary>
internal static class PartSplit
{
    /// <summary>The number of the part of each shard, in the order of the plan.</summary>
    public static IReadOnlyList<int> Of(WritePlan plan, int parts)
    {
        if (parts > plan.Shards.Length)
        {
            throw Part.Refused(
                $"The model has {Amount.Text(plan.Shards.Length, "shard")}, so of {parts} parts some would be empty: at most "
                + $"{plan.Shards.Length} can be used.",
                $"Use {Amount.Text(plan.Shards.Length, "part")} at most, or a smaller -MaxShardSize: the same for all parts.");
        }

        var sets = Sets(plan);
        return Split([.. plan.Shards.Select(s => s.Layout.Length + Surveyed(s, sets).Concat(s.Tensors.SelectMany(t => t.Inputs)).Distinct()
            .Sum(i => i.Length))], parts);
    }

    /// <summary>The shards of a part.</summary>
    public static ImmutableArray<WriteShard> ShardsOf(WritePlan plan, Part part) =>
        [.. plan.Shards.Zip(Of(plan, part.Count)).Where(s => s.Second == part.Number).Select(s => s.First)];

    /// <summary>The files that some shards are made of.</summary>
    public static IReadOnlyList<StoredFile> FilesOf(WritePlan plan, IReadOnlyList<WriteShard> shards)
    {
        var sets = Sets(plan);
        var files = shards.SelectMany(s => s.Tensors.SelectMany(t => t.Inputs).Concat(Surveyed(s, sets))).Select(i => i.File).ToHashSet();
        return [.. plan.Merge.InputFiles.Where(files.Contains)];
    }

    /// <summary>Splits a row of costs into parts of neighbours, none of them empty; gives the number of the part of each.</summary>
    public static IReadOnlyList<int> Split(IReadOnlyList<long> costs, int parts)
    {
        // The least limit that so many parts can keep to.
        var (low, high) = (Math.Max(costs.Max(), (costs.Sum() + parts - 1) / parts), costs.Sum());
        while (low < high)
        {
            var limit = low + ((high - low) / 2);
            (low, high) = Fill(costs, parts, limit) is null ? (limit + 1, high) : (low, limit);
        }

        return Fill(costs, parts, low)!;
    }

    private static int[]? Fill(IReadOnlyList<long> costs, int parts, long limit)
    {
        var numbers = new int[costs.Count];
        var (part, sum) = (1, 0L);
        for (var i = 0; i < costs.Count; i++)
        {
            // As many shards stay as there are parts that have none.
            if (i > 0 && (sum + costs[i] > limit || costs.Count - i == parts - part))
            {
                (part, sum) = (part + 1, 0);
            }

            numbers[i] = part;
            sum += costs[i];
        }

        return part <= parts ? numbers : null;
    }

    private static ILookup<string, WriteTensor> Sets(WritePlan plan) =>
        plan.Tensors.Where(t => t.Sink.SurveySet is not null).ToLookup(t => t.Sink.SurveySet!, StringComparer.Ordinal);

    // Before a tensor of a set is written, all of the set is read.
    private static IEnumerable<StoredTensor> Surveyed(WriteShard shard, ILookup<string, WriteTensor> sets) =>
        shard.Tensors.Select(t => t.Sink.SurveySet).OfType<string>().Distinct().SelectMany(s => sets[s]).SelectMany(t => t.Inputs);
}
