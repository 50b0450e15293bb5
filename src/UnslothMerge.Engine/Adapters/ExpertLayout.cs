namespace UnslothMerge.Adapters;

/// <summary>A part of a parameter: some rows of one expert's matrix, where they begin in a tensor of the model (null: they are all of it),
/// and the order in which they lie there, if it is another.</summary>
internal sealed record ParameterPart(TargetTensor Tensor, long Row, long Rows, MatrixPlace? Place, int[]? Order = null);

/// <summary>A parameter of a module (<c>gate_up_proj</c>) as the running model has it, over one stored tensor or over those of single
/// experts. Rows and columns are those of one expert's matrix as stored; the experts are null for a matrix.</summary>
internal sealed record ModuleParameter(string Name, int? Experts, long Rows, long Columns, Func<int, IReadOnlyList<ParameterPart>> PartsOf)
{
    /// <summary>True if the shape does not say which dimension are the rows.</summary>
    public bool IsSquare => Rows == Columns;

    /// <summary>Its shape, for errors.</summary>
    public string Shape => Experts is { } e ? $"[{e}, {Rows}, {Columns}]" : $"[{Rows}, {Columns}]";
}

/// <summary>The place of a module's matrix in a parameter that fuses several (<c>gate_up_proj</c>): which expert, and which of how
/// many.</summary>
internal sealed record FusedPlace(string Module, string Parameter, int Expert, int Index, int Count);

/// <summary>How matrices that belong together are kept, above all those of a layer's experts: each in a tensor of its own, or all in one
/// per projection. Which of them a checkpoint or an adapter has is independent of each other. Source: transformers 5,
/// <c>conversion_mapping.py</c>; Unsloth for gpt-oss.</summary>
internal static partial class ExpertLayout
{
    // The fused parameter, and the experts' own modules whose rows it holds, in order. One row per naming.
    private static readonly (string Parameter, string[] Parts)[] Table =
    [
        ("gate_up_proj", ["gate_proj", "up_proj"]), // qwen2_moe and most others
        ("gate_up_proj", ["w1", "w3"]),             // mixtral, phimoe, lfm2_moe, deepseek_v4
        ("gate_up_proj", ["gate_up_projs"]),        // gpt_oss split by Unsloth
        ("up_proj", ["up_proj"]),                   // nemotron_h, which has no gate
        ("down_proj", ["down_proj"]),
        ("down_proj", ["w2"]),
        ("down_proj", ["down_projs"]),
    ];

    // Projections that a checkpoint may keep in one matrix, rows after rows. Those that mix their rows (in_proj_qkvz, query_key_value) are
    // not among them.
    private static readonly (string Fused, string[] Parts)[] Projections =
    [
        ("qkv_proj", ["q_proj", "k_proj", "v_proj"]),
        ("Wqkv", ["q_proj", "k_proj", "v_proj"]),
        ("in_proj_qkv", ["in_proj_q", "in_proj_k", "in_proj_v"]),
        ("gate_up_proj", ["gate_proj", "up_proj"]),
    ];

    // Modules register their parameters in this order, as far as they have them. Source: transformers 5, modeling files.
    private static readonly string[] Registration =
        [
            "gate_up_proj", "gate_up_proj_bias", "gate_proj", "up_proj", "up_proj_bias", "down_proj", "down_proj_bias", "w1", "v1", "w2",
            "weight", "bias"];

    // Experts stored [in, out] whatever the adapter. Source: transformers 5, is_transposed of gpt_oss and aria; Llama4TextExperts.
    private static readonly string[] StoredTransposed = ["gpt_oss", "aria", "aria_text", "llama4", "llama4_text"];

    /// <summary>The matrices and stacks of matrices among a module's parameters, those of single experts as the fused ones they are at run
    /// time.</summary>
    public static IReadOnlyList<ModuleParameter> Parameters(BaseParameters model, string module)
    {
        var own = model.Of(module).Where(p => p.Value.Shape is [_, _] or [<= Limits.Experts, _, _]).Select(p => Stored(p.Key, p.Value));
        if (!model.HasExperts)
        {
            return [.. own];
        }

        var experts = model.Experts(module).GroupBy(e => e.Part).ToDictionary(g => g.Key, g => g.OrderBy(e => e.Expert).ToList());
        var stacks = model.Stacks(module);
        var general = Table.Where(r => !stacks.Contains(r.Parameter) && !(r.Parameter == "up_proj" && experts.ContainsKey("gate_proj")))
            .Select(r => Split(r.Parameter, r.Parts, experts));
        return [.. own.Concat(stacks.Select(s => Stack(model, s))).Concat(general.OfType<ModuleParameter>())];
    }

    /// <summary>Where a parameter stands in the order in which its module registers them; null if that is not known.</summary>
    public static int? Order(string parameter) => Array.IndexOf(Registration, parameter) is var index and >= 0 ? index : null;

    /// <summary>The parameters that may hold a module's matrix among others. Several, because namings share names.</summary>
    public static IEnumerable<FusedPlace> Fused(string module)
    {
        if (ModulePattern().Match(module) is { Success: true } match)
        {
            var expert = int.Parse(match.Groups["expert"].ValueSpan, CultureInfo.InvariantCulture);
            var part = match.Groups["part"].Value;
            foreach (var row in Table.Where(r => r.Parts.Contains(part)))
            {
                yield return new FusedPlace(
                    match.Groups["module"].Value, row.Parameter, expert, Array.IndexOf(row.Parts, part), row.Parts.Length);
            }
        }
    }

    /// <summary>The matrices that may hold a module's rows among others, with the modules whose rows they hold.</summary>
    public static IEnumerable<(string Fused, IReadOnlyList<string> Parts)> FusedProjections(string module) =>
        from row in Projections
        let part = row.Parts.FirstOrDefault(p => module.EndsWith("." + p, StringComparison.Ordinal))
        where part is not null
        select (module[..^part.Length] + row.Fused, (IReadOnlyList<string>)[.. row.Parts.Select(p => module[..^part.Length] + p)]);

    /// <summary>The modules that may hold the rows of one matrix apart, each with the modules in order.</summary>
    public static IEnumerable<IReadOnlyList<string>> SplitProjections(string module) =>
        Projections.Where(r => module.EndsWith("." + r.Fused, StringComparison.Ordinal))
            .Select(r => (IReadOnlyList<string>)[.. r.Parts.Select(p => module[..^r.Fused.Length] + p)]);

    /// <summary>True if a module's experts are stored [in, out], false if [out, in], null if that is not known. gate_up_proj has twice the
    /// outputs of what down_proj takes, and down_proj's outputs are what gate_up_proj takes.</summary>
    public static bool? IsStoredTransposed(BaseParameters model, string module)
    {
        var parameters = Parameters(model, module);
        if (parameters.FirstOrDefault(p => p.Name == "gate_up_proj") is { } up
            && parameters.FirstOrDefault(p => p.Name == "down_proj") is { } down)
        {
            var plain = up.Rows == 2 * down.Columns && up.Columns == down.Rows;
            var transposed = up.Columns == 2 * down.Rows && up.Rows == down.Columns;
            if (plain != transposed)
            {
                return transposed;
            }
        }

        return StoredTransposed.Any(model.ModelTypes.Contains) ? true : null;
    }

    private static ModuleParameter Stored(string name, TargetTensor tensor)
    {
        var (rows, columns) = (tensor.Shape[^2], tensor.Shape[^1]);
        return tensor.Shape.Count == 2
            ? new ModuleParameter(name, null, rows, columns, _ => [new ParameterPart(tensor, 0, rows, null)])
            : new ModuleParameter(
                name, checked((int)tensor.Shape[0]), rows, columns,
                e => [new ParameterPart(tensor, 0, rows, new MatrixPlace(e * rows, 0))]);
    }

    // As transformers' rules join them: a matrix of each expert, or stacks of the halves of all experts' matrices.
    private static ModuleParameter Stack(BaseParameters model, IGrouping<string, (Origin Origin, TargetTensor Tensor)> stack)
    {
        var first = stack.First().Origin;
        var rule = first.Conversion!;
        var experts = stack.GroupBy(o => o.Origin.Number).OrderBy(g => g.Key)
            .Select(g => g.OrderBy(o => o.Origin.Source).Select(o => o.Tensor).ToList()).ToList();
        if (rule.Targets > 1)
        {
            var share = (experts.Count + rule.Targets - 1) / rule.Targets;
            experts = experts.GetRange(first.Target * share, Math.Min(share, experts.Count - (first.Target * share)));
        }

        var shapes = experts[0].ConvertAll(t => t.Shape);
        AdaptedModule.Require(
            experts.TrueForAll(e => e.Count == rule.Sources && e.Zip(shapes).All(p => p.First.Shape.SequenceEqual(p.Second)))
                && shapes.TrueForAll(s => s.Count == (first.Number is null ? 3 : 2) && s[^1] == shapes[0][^1])
            && (rule.Operations is [_] || !rule.Has("Interleave")) && !rule.Has("Inkling2LoopDequantizeExperts"),
            $"transformers makes {stack.Key} of {string.Join(" and ", experts[0].Select(t => $"{t.Name} {t.Shape.Text()}"))} by {rule}, " +
                "which cannot be followed here");
        var rows = shapes.ConvertAll(s => s[^2]);
        var order = rule.Has("Interleave") ? model.RowsOf(first, rows)?.Rows : null;
        return new ModuleParameter(stack.Key, first.Number is null ? checked((int)shapes[0][0]) : experts.Count, rows.Sum(), shapes[0][^1],
            e => first.Number is null
            ? [.. experts[0].Select((t, i) => new ParameterPart(t, rows.Take(i).Sum(), rows[i], new MatrixPlace(e * rows[i], 0), order))]
            : [.. experts[e].Select((t, i) => new ParameterPart(t, rows.Take(i).Sum(), rows[i], null))]);
    }

    // Null unless every expert has every part, all of one shape.
    private static ModuleParameter? Split(string parameter, string[] parts, Dictionary<string, List<ExpertTarget>> experts)
    {
        var lists = parts.Select(p => experts.GetValueOrDefault(p)).OfType<List<ExpertTarget>>().ToList();
        if (lists.Count < parts.Length
            || lists.Any(l => l.Count != lists[0].Count
                || l.Where((t, e) => t.Expert != e || !t.Tensor.Shape.SequenceEqual(l[0].Tensor.Shape)).Any()))
        {
            return null;
        }

        var shapes = lists.Select(l => l[0].Tensor.Shape).ToList();
        if (shapes.Any(s => s.Count != 2 || s[1] != shapes[0][1]))
        {
            return null;
        }

        IReadOnlyList<ParameterPart> PartsOf(int expert) =>
            [.. lists.Select((l, i) => new ParameterPart(l[expert].Tensor, shapes.Take(i).Sum(s => s[0]), shapes[i][0], null))];
        return new ModuleParameter(parameter, lists[0].Count, shapes.Sum(s => s[0]), shapes[0][1], PartsOf);
    }

    [GeneratedRegex(
        @"^(?<module>.*)\.((?<expert>\d{1,6})\.(?<part>[^.]+)|(?<part>[^.]+)\.(?<expert>\d{1,6}))$",
        RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex ModulePattern();
}
