using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoRA on a Linear layer whose weight the base keeps otherwise: in one tensor with others (one expert of many, one projection of
/// three), or in several, or transposed. The delta s·BA goes where its rows are. Source: transformers 5,
/// <c>conversion_mapping.py</c>.</summary>
internal sealed class LoraSlice() : AdapterKind("LoRA", "LORA", [LoraLayer.A, LoraLayer.B])
{
    protected override ModuleChanges? Changes(AdaptedModule module)
    {
        if (module.Find(LoraLayer.A) is not { Shape.Count: 2 } a || module.Find(LoraLayer.B) is not { Shape.Count: 2 } b
            || module.FindParameter("weight") is not null)
        {
            return null;
        }

        if (Places(module, a, b) is not { } places)
        {
            return null;
        }

        AdaptedModule.Require(a.Shape[0] == b.Shape[1] && a.Shape[0] > 0,
            $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank");
        var scaling = module.Config.ScalingOf(module.Name, module.RequireRank(a.Shape[0]));
        AdaptedModule.Require(
            !module.Config.IsSet("use_dora") && !module.Config.IsSet("use_qalora"),
            $"DoRA (use_dora) or QALoRA (use_qalora) on a module that shares {places[0].Tensor.Name} with others, or has it in another "
                + "form, is not supported");
        return new ModuleChanges([.. places.Select(p => new TensorChange(p.Tensor, Delta(p, a, b, scaling)))]);
    }

    // Where the rows of a delta are. Null if the base has nothing of the kind.
    private static IReadOnlyList<Place>? Places(AdaptedModule module, StoredTensor a, StoredTensor b)
    {
        var rows = new Slice(0, b.Shape[0]);
        var origins = module.Base.Origins($"{module.Name}.weight");
        if (origins is [{ Origin.Conversion: { } rule }, ..])
        {
            var tensors = origins.OrderBy(o => o.Origin.Number).ThenBy(o => o.Origin.Source).Select(o => o.Tensor).ToList();
            var areMatrices = tensors.TrueForAll(t => t.Shape.Count == 2);
            return areMatrices && RowOrder.Knows(rule, 0) && tensors.Count == 1 ? [Part(module, origins[0].Origin, tensors[0], a, rows)]
                : areMatrices && rule is { Operations: [_], Targets: 1 } && rule.Has("Concatenate") ? Apart(module, tensors, a, rows)
                : rule is { Operations: [_] } && rule.Has("Transpose") && tensors[0].Shape.SequenceEqual([a.Shape[1], rows.Count])
                    ? [new Place(tensors[0], 0, 0, rows, IsTransposed: true)]
                : throw new MisfitException(
                    $"transformers makes {module.Name} of {tensors[0].Name} {tensors[0].Shape.Text()} by {rule}, which cannot be " +
                    "followed here");
        }

        foreach (var place in ExpertLayout.Fused(module.Name))
        {
            if (module.Base.Find(place.Module, place.Parameter) is { Shape.Count: 3 } fused)
            {
                return [Expert(module, place, fused, a, rows)];
            }
        }

        foreach (var (name, parts) in ExpertLayout.FusedProjections(module.Name))
        {
            if (module.Base.Find(name, "weight") is { Shape.Count: 2 } fused)
            {
                return [Part(module, parts, fused, a, rows, Sizes(module, parts, fused.Shape[0]))];
            }
        }

        return ExpertLayout.SplitProjections(module.Name).Select(parts => parts.Select(p => module.Base.Find(p, "weight")).ToList())
            .FirstOrDefault(t => t.TrueForAll(p => p is { Shape.Count: 2 })) is { } split ? Apart(module, split!, a, rows) : null;
    }

    private static Place Part(AdaptedModule module, Origin origin, TargetTensor fused, StoredTensor a, Slice rows)
    {
        var names = module.Base.Parts(origin);
        var mine = names[origin.Target];
        var parts = names.Select(n => module.Name[..^Last(mine).Length] + Last(n)).ToList();
        var rule = origin.Conversion!;
        var sizes = rule.Has("Split")
            ? Sizes(module, parts, fused.Shape[0]) : [.. parts.Select(_ => fused.Shape[0] / parts.Count)];
        var part = Part(module, parts, fused, a, rows, sizes);
        if (!rule.Has("Interleave") && !rule.Has("PermuteForRope"))
        {
            return part;
        }

        var order = module.Base.RowsOf(origin, sizes);
        AdaptedModule.Require(
            order is not null,
            $"transformers makes {module.Name} of {fused.Name} {fused.Shape.Text()} by {rule}, and num_attention_heads of the base's " +
                "config.json does not tell which rows are a head's");
        return part with { Row = order.First, Order = order.Rows };

        static string Last(string name) => name.Split('.')[^2];
    }

    private static Place Part(AdaptedModule module, IReadOnlyList<string> parts, TargetTensor fused, StoredTensor a, Slice rows,
        IReadOnlyList<long> sizes)
    {
        var index = parts.ToList().IndexOf(module.Name);
        AdaptedModule.Require(
            sizes.Sum() == fused.Shape[0] && sizes[index] == rows.Count && fused.Shape[1] == a.Shape[1],
            $"the delta is [{rows.Count}, {a.Shape[1]}], and {fused.Name} {fused.Shape.Text()} should hold the rows of " +
                $"{string.Join(", ", parts)}: {string.Join(" + ", sizes)}");
        return new Place(fused, sizes.Take(index).Sum(), 0, rows, IsTransposed: false);
    }

    // The rows of each part: as the adapter has them, or the config; what is left is the last one's.
    private static IReadOnlyList<long> Sizes(AdaptedModule module, IReadOnlyList<string> parts, long rows)
    {
        var known = parts.Select(module.OutputsOf).ToArray();
        if (parts.Count == 3)
        {
            known = [known[0], known[1] ?? known[2], known[2] ?? known[1]];
            if (known.Contains(null) && module.Base.QueryKeyValue.Sum() == rows
                && module.Base.QueryKeyValue.Zip(known).All(p => p.Second is null || p.First == p.Second))
            {
                known = [.. module.Base.QueryKeyValue];
            }
        }
        else if (parts.Count == 2)
        {
            known = [known[0] ?? known[1], known[1] ?? known[0]];
        }

        var rest = rows - known.Sum(k => k ?? 0);
        AdaptedModule.Require(
            known.Count(k => k is null) <= 1,
            $"{parts.Count} modules share one tensor of the base, and neither the adapter nor the config tells the rows of " +
                $"{string.Join(" and ", parts.Where((_, i) => known[i] is null))}");
        return [.. known.Select(k => k ?? rest)];
    }

    private static IReadOnlyList<Place> Apart(AdaptedModule module, IReadOnlyList<TargetTensor> tensors, StoredTensor a, Slice rows)
    {
        AdaptedModule.Require(
            tensors.Sum(t => t.Shape[0]) == rows.Count && tensors.All(t => t.Shape.Count == 2 && t.Shape[1] == a.Shape[1]),
            $"the delta of {module.Name} is [{rows.Count}, {a.Shape[1]}], and the base has " +
                $"{string.Join(", ", tensors.Select(t => $"{t.Name} {t.Shape.Text()}"))}");
        return [.. tensors.Select((t, i) =>
            new Place(t, 0, 0, new Slice(tensors.Take(i).Sum(p => p.Shape[0]), t.Shape[0]), IsTransposed: false))];
    }

    private static Place Expert(AdaptedModule module, FusedPlace place, TargetTensor fused, StoredTensor a, Slice outputs)
    {
        var (experts, rows, columns) = (fused.Shape[0], fused.Shape[^2], fused.Shape[^1]);
        var inputs = a.Shape[1];
        AdaptedModule.Require(place.Expert < experts, $"{fused.Name} holds {experts} experts, so there is no {module.Name}");
        AdaptedModule.Require(
            place.Count == 1 || !module.Base.ModelTypes.Contains("gpt_oss"),
            $"{fused.Name} interleaves gate and up, so {module.Name} has no slice of its own in it");
        var plain = rows == place.Count * outputs.Count && columns == inputs;
        var transposed = rows == inputs && columns == place.Count * outputs.Count;
        AdaptedModule.Require(
            plain || transposed,
            $"the delta is [{outputs.Count}, {inputs}], and {fused.Name} {fused.Shape.Text()} does not hold {place.Count} of them per " +
                "expert");

        // Models that do not say otherwise keep [out, in].
        transposed = transposed && (!plain || (ExpertLayout.IsStoredTransposed(module.Base, place.Module) ?? false));
        var first = place.Index * outputs.Count;
        return transposed
            ? new Place(fused, place.Expert * rows, checked((int)first), outputs, IsTransposed: true)
            : new Place(fused, (place.Expert * rows) + first, 0, outputs, IsTransposed: false);
    }

    private LowRankTerm Delta(Place place, StoredTensor a, StoredTensor b, double scaling)
    {
        var (_, row, column, rows, transposed, order) = place;
        var (left, right) = (new FactorMatrix(b, Transposed: false) { StoredRows = rows, Order = order },
            new FactorMatrix(a, Transposed: false));
        return transposed
            ? new LowRankTerm(Name, right.Transpose(), left.Transpose(), scaling, new MatrixPlace(row, column))
            : new LowRankTerm(Name, left, right, scaling, new MatrixPlace(row, column));
    }

    /// <summary>Where some rows of the delta lie: from a first row and column of a tensor on, transposed or not, in another order or
    /// not.</summary>
    private sealed record Place(TargetTensor Tensor, long Row, int Column, Slice Rows, bool IsTransposed, int[]? Order = null);
}
