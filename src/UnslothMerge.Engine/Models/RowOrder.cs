namespace UnslothMerge.Models;

/// <summary>Where the rows of a running model's matrix lie in the checkpoint's tensor, for rules that cut and mix rows: for each stored
/// row, from the first one that is among them on, the matrix's row; -1 for rows of other matrices. Source: transformers 5,
/// <c>core_model_loading.py</c>.</summary>
internal sealed record RowOrder(long First, int[] Rows)
{
    /// <summary>True if a rule only moves whole rows of one tensor, which are its dimension 0, or 1 in a stack of matrices.</summary>
    public static bool Knows(NameRule rule, int dim) => rule.Sources == 1 && rule.Operations.All(o =>
        (string?)o["name"] is "Chunk" or "Split" or "Interleave" ? (int?)o["dim"] == dim
            : (string?)o["name"] == "PermuteForRope" && dim == 0);

    /// <summary>The order of one of a rule's targets, all of which have names and so many rows; null if the config's number of heads does
    /// not fit the rows.</summary>
    public static RowOrder? Of(
        NameRule rule, IReadOnlyList<string> targets, IReadOnlyList<long> sizes, int target, ModelConfig config)
    {
        List<int[]?> parts = [[.. Enumerable.Range(0, checked((int)sizes.Sum()))]];
        foreach (var operation in rule.Operations)
        {
            var inverse = operation.Bool("inverse") == true;
            var permuted = operation.Strings("permute_layer_names");
            parts = (string?)operation["name"] switch
            {
                "Interleave" => parts.ConvertAll(p => Halves(p, 1, inverse)),
                "PermuteForRope" => [.. parts.Zip(targets, (p, name) =>
                    permuted.Count > 0 && !permuted.Any(name.Contains) ? p
                        : Halves(p, config.HeadsOf(operation.String("subconfig_key")), inverse))],
                _ => [.. sizes.Select((size, i) => parts[0]?.AsSpan((int)sizes.Take(i).Sum(), (int)size).ToArray())],
            };
        }

        if (parts[target] is not { } stored)
        {
            return null;
        }

        var first = stored.Min();
        var rows = Enumerable.Repeat(-1, stored.Max() + 1 - first).ToArray();
        for (var row = 0; row < stored.Length; row++)
        {
            rows[stored[row] - first] = row;
        }

        return new RowOrder(first, rows);
    }

    // Of each head the rows in even places, then those in odd ones; or the reverse.
    private static int[]? Halves(int[]? rows, long? heads, bool inverse)
    {
        if (rows is null || heads is not > 0 || rows.Length % (2 * heads) != 0)
        {
            return null;
        }

        var half = rows.Length / (int)heads / 2;
        return [.. rows.Select((_, row) =>
        {
            var (head, at) = Math.DivRem(row, 2 * half);
            return rows[(head * 2 * half) + (inverse ? (at % 2 * half) + (at / 2) : (at % half * 2) + (at / half))];
        })];
    }
}
