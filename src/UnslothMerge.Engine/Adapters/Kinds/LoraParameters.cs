using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on parameters themselves (<c>target_parameters</c>): a matrix W + s·BA, or a stack of one matrix per expert with A [experts·r, in] and
/// B [out, r·experts], Δₑ = s·Σₖ B[:, column(k, e)] ⊗ A[e·r + k, :]. PEFT nests one wrapper per parameter of a module, the first that the module
/// registers innermost. Source: PEFT 0.21, <c>lora.ParamWrapper</c>.
/// </summary>
public sealed class LoraParameters : AdapterKind
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [A, B];

    /// <inheritdoc/>
    public override bool Nests => true;

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        var parameters = ExpertLayout.Parameters(target, module.Module);
        var named = parameters.Where(p => module.Config.TargetsParameter($"{module.Module}.{p.Name}")).ToList();
        var candidates = named.Count > 0 ? named : [.. parameters.Where(p => p.Experts is not null)];
        var pairs = module.Levels.Select(l => (A: l.GetValueOrDefault(A), B: l.GetValueOrDefault(B))).ToList();
        if (candidates.Count == 0 || pairs.Any(p => p.A is not { Shape.Count: 2 } || p.B is not { Shape.Count: 2 }))
        {
            return false;
        }

        var problem = module.Config.IsSet("use_dora") ? "DoRA (use_dora) does not exist for parameters"
            : named.Count > 0 && named.Count != pairs.Count ? $"target_parameters names {named.Count} parameters of {module.Module} ({string.Join(", ", named.Select(p => p.Name))}), but the file has {pairs.Count} pairs of lora_A and lora_B for it"
            : null;
        var adapted = problem is null ? Assign(module, [.. pairs.Select(p => new Pair(p.A!, p.B!))], candidates, out problem) : [];
        foreach (var (pair, parameter) in adapted)
        {
            if (problem is null && Deltas(module, target, pair, parameter, adapted, out problem) is { } deltas)
            {
                target.Add(module.Module, deltas);
            }
        }

        if (problem is not null)
        {
            foreach (var tensor in module.Levels.SelectMany(l => l.Values))
            {
                target.Problem(tensor, problem);
            }
        }

        return true;
    }

    // Which parameter each wrapper means, outermost first: the one that it fits, or, if it fits several, by their order in the module.
    private static IReadOnlyList<Adapted> Assign(ModuleAdapter module, IReadOnlyList<Pair> pairs, IReadOnlyList<ModuleParameter> candidates, out string? problem)
    {
        var byOrder = candidates.OrderByDescending(p => ExpertLayout.Order(p.Name) ?? 0).ToList();
        var fitting = Assignments(pairs, byOrder).Take(2).ToList();
        problem = fitting.Count switch
        {
            0 when pairs.Count == byOrder.Count => pairs.Zip(byOrder, (pair, parameter) => Misfit(pair, parameter, module.Module)).First(m => m is not null),
            0 => $"no parameter of {module.Module} fits: it has {string.Join(", ", candidates.Select(p => $"{p.Name} {p.Shape}"))}, and lora_A is {pairs[0].A.Shape.Text()}, lora_B {pairs[0].B.Shape.Text()}",
            > 1 when pairs.Count != byOrder.Count || byOrder.Any(p => ExpertLayout.Order(p.Name) is null) =>
                $"it fits several parameters of {module.Module} ({string.Join(", ", candidates.Select(p => p.Name))}), and nothing tells which is meant",
            _ => null,
        };
        return problem is null ? fitting[0] : [];
    }

    // In the order of the candidates, so that the first is the module's own order if that fits.
    private static IEnumerable<IReadOnlyList<Adapted>> Assignments(IReadOnlyList<Pair> pairs, IReadOnlyList<ModuleParameter> candidates)
    {
        if (pairs.Count == 0)
        {
            return [[]];
        }

        return candidates.Where(p => Misfit(pairs[0], p, "") is null)
            .SelectMany(p => Assignments([.. pairs.Skip(1)], [.. candidates.Where(c => c != p)]).Select(rest => (IReadOnlyList<Adapted>)[new Adapted(pairs[0], p), .. rest]));
    }

    private static string? Misfit(Pair pair, ModuleParameter parameter, string module)
    {
        var experts = parameter.Experts ?? 1;
        var name = $"{module}.{parameter.Name} {parameter.Shape}";
        return pair.A.Shape[0] != pair.B.Shape[1] ? $"lora_A {pair.A.Shape.Text()} and lora_B {pair.B.Shape.Text()} do not have one rank"
            : pair.A.Shape[0] % experts != 0 || pair.A.Shape[0] == 0 ? $"lora_A {pair.A.Shape.Text()} has {pair.A.Shape[0]} rows, which is no multiple of the {experts} experts of {name}"
            : IsStraight(pair, parameter) || (parameter.Experts is not null && IsCrossed(pair, parameter)) ? null
            : $"lora_A {pair.A.Shape.Text()} and lora_B {pair.B.Shape.Text()} do not fit {name}{(parameter.Experts is null ? "" : " nor its experts transposed")}";
    }

    // A lies along the columns of the stored matrix, or along its rows.
    private static bool IsStraight(Pair pair, ModuleParameter parameter) => pair.A.Shape[1] == parameter.Columns && pair.B.Shape[0] == parameter.Rows;

    private static bool IsCrossed(Pair pair, ModuleParameter parameter) => pair.A.Shape[1] == parameter.Rows && pair.B.Shape[0] == parameter.Columns;

    private List<TargetDelta>? Deltas(ModuleAdapter module, IAdapterTarget target, Pair pair, ModuleParameter parameter, IReadOnlyList<Adapted> adapted, out string? problem)
    {
        var name = $"{module.Module}.{parameter.Name}";
        var experts = parameter.Experts ?? 1;
        var rank = (int)(pair.A.Shape[0] / experts);
        if (module.Config.RankOf(name) is { } expected && expected != rank)
        {
            var count = parameter.Experts is null ? "" : $" for {experts} experts";
            problem = $"lora_A {pair.A.Shape.Text()} means rank {rank}{count}, but adapter_config.json gives {name} the rank {expected}";
            return null;
        }

        if (Layout(module, target, out problem) is not { } layout || LiesAcross(module, target, pair, parameter, adapted, out problem) is not { } across)
        {
            return null;
        }

        var scaling = module.Config.ScalingOf(name, rank);
        var deltas = new List<TargetDelta>();
        for (var e = 0; e < experts; e++)
        {
            var a = new Slice((long)e * rank, rank);
            var b = layout == MoeLoraLayout.Grouped || experts == 1 ? a : new Slice(e, rank, experts);
            foreach (var part in parameter.PartsOf(e))
            {
                var rows = new Slice(part.Row, part.Rows);
                var (left, right) = across
                    ? (new FactorMatrix(pair.A, Transposed: true) { StoredRows = a, StoredColumns = rows }, new FactorMatrix(pair.B, Transposed: true) { StoredColumns = b })
                    : (new FactorMatrix(pair.B, Transposed: false) { StoredRows = rows, StoredColumns = b }, new FactorMatrix(pair.A, Transposed: false) { StoredRows = a });
                deltas.Add(new TargetDelta(part.Tensor, new LowRankTerm(Name, left, right, scaling, part.Place)));
            }
        }

        return deltas;
    }

    private static MoeLoraLayout? Layout(ModuleAdapter module, IAdapterTarget target, out string? problem)
    {
        var stated = module.Config.Json["lora_B_layout"]?.ToString();
        var known = stated?.Replace("_", "", StringComparison.Ordinal).Replace("-", "", StringComparison.Ordinal).ToUpperInvariant() switch
        {
            null or "" or "RANKMAJOR" or "PEFT" => MoeLoraLayout.RankMajor,
            "GROUPED" or "EXPERTMAJOR" => MoeLoraLayout.Grouped,
            _ => (MoeLoraLayout?)null,
        };
        var layout = target.MoeLoraLayout ?? known;
        problem = layout is null ? $"adapter_config.json's lora_B_layout is '{stated}', which is not known; say -MoeLoraLayout RankMajor or Grouped" : null;
        return layout;
    }

    // True if A lies along the rows of the matrix as it is stored. The shape tells, unless it is square.
    private static bool? LiesAcross(ModuleAdapter module, IAdapterTarget target, Pair pair, ModuleParameter parameter, IReadOnlyList<Adapted> adapted, out string? problem)
    {
        problem = null;
        if (parameter.Experts is null || !(IsStraight(pair, parameter) && IsCrossed(pair, parameter)))
        {
            return parameter.Experts is not null && !IsStraight(pair, parameter);
        }

        // All parameters of a module are adapted alike.
        if (target.MoeOrientation is null && adapted.FirstOrDefault(o => o.Parameter.Experts is not null && !o.Parameter.IsSquare) is { } other)
        {
            return IsCrossed(other.Pair, other.Parameter);
        }

        var last = MoeOrientations.IsLast(module.Config, target, parameter.Experts.Value);
        var transposed = MoeOrientations.IsStoredOtherwise(target, module.Module);
        if (last is null || transposed is null)
        {
            problem = $"{module.Module}.{parameter.Name} {parameter.Shape} is square, and neither another parameter nor peft_version tells the orientation of lora_A: "
                + "say -MoeOrientation InFirst (PEFT up to 0.18) or InLast (PEFT from 0.19.1 on)";
            return null;
        }

        return last == transposed;
    }

    private sealed record Pair(StoredTensor A, StoredTensor B);

    private sealed record Adapted(Pair Pair, ModuleParameter Parameter);
}
