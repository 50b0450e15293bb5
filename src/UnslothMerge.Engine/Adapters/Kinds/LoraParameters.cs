using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoRA on parameters themselves (<c>target_parameters</c>): a matrix W + s·BA, or a stack of one matrix per expert with A
/// [experts·r, in] and B [out, r·experts], Δₑ = s·Σₖ B[:, column(k, e)] ⊗ A[e·r + k, :]. PEFT nests one wrapper per parameter of a module,
/// the first that the module registers innermost. Source: PEFT 0.21, <c>lora.ParamWrapper</c>.</summary>
internal sealed class LoraParameters() : AdapterKind("LoRA", "LORA", [A, B])
{
    private const string A = "lora_A.weight";
    private const string B = "lora_B.weight";

    public override bool Nests => true;

    protected override ModuleChanges? Changes(AdaptedModule module)
    {
        var parameters = ExpertLayout.Parameters(module.Base, module.Name);
        var named = parameters.Where(p => module.Config.TargetsParameter($"{module.Name}.{p.Name}")).ToList();
        var candidates = named.Count > 0 ? named : [.. parameters.Where(p => p.Experts is not null)];
        var pairs = module.Levels.Select(l => (A: l.GetValueOrDefault(A), B: l.GetValueOrDefault(B))).ToList();
        if (candidates.Count == 0 || pairs.Any(p => p.A is not { Shape.Count: 2 } || p.B is not { Shape.Count: 2 }))
        {
            return null;
        }

        AdaptedModule.Require(!module.Config.IsSet("use_dora"), "DoRA (use_dora) does not exist for parameters");
        AdaptedModule.Require(!module.Config.IsSet("use_qalora"), "QALoRA (use_qalora) does not exist for parameters");
        AdaptedModule.Require(
            named.Count == 0 || named.Count == pairs.Count,
            $"target_parameters names {named.Count} parameters of {module.Name} ({string.Join(", ", named.Select(p => p.Name))}), but the "
            + $"file has {pairs.Count} pairs of lora_A and lora_B for it");
        var adapted = Assign(module, [.. pairs.Select(p => new Pair(p.A!, p.B!))], candidates);
        return new ModuleChanges([.. adapted.SelectMany(a => Deltas(module, a, adapted))])
        {
            Warning = adapted.Where(a => a.Parameter.Experts is not null)
                .Select(a => MergeWarning.Of(
                    MergeWarningId.ExpertLayout, MoeLayouts.Of(module.Config, module.Base, a.Parameter.Name).Warning))
                .FirstOrDefault(w => w is not null),
        };
    }

    // Which parameter each wrapper means, outermost first: the one that it fits, or, if it fits several, by their order in the module.
    private static IReadOnlyList<Adapted> Assign(AdaptedModule module, IReadOnlyList<Pair> pairs, IReadOnlyList<ModuleParameter> candidates)
    {
        var byOrder = candidates.OrderByDescending(p => ExpertLayout.Order(p.Name) ?? 0).ToList();
        var fitting = Assignments(pairs, byOrder).Take(2).ToList();
        var sameCount = pairs.Count == byOrder.Count;
        AdaptedModule.Require(
            fitting.Count < 2 || (sameCount && byOrder.TrueForAll(p => ExpertLayout.Order(p.Name) is not null)),
            $"it fits several parameters of {module.Name} ({string.Join(", ", candidates.Select(p => p.Name))}), and nothing determines " +
                "which "
            + "is meant");
        return fitting.Count > 0 ? fitting[0] : throw new MisfitException(sameCount
            ? pairs.Zip(byOrder, (pair, parameter) => Misfit(pair, parameter, module.Name)).First(m => m is not null)!
            : $"no parameter of {module.Name} fits: it has {string.Join(", ", candidates.Select(p => $"{p.Name} {p.Shape}"))}, "
                + $"and lora_A is {pairs[0].A.Shape.Text()}, lora_B {pairs[0].B.Shape.Text()}");
    }

    // In the order of the candidates, so that the first is the module's own order if that fits.
    private static IEnumerable<IReadOnlyList<Adapted>> Assignments(IReadOnlyList<Pair> pairs, IReadOnlyList<ModuleParameter> candidates)
    {
        if (pairs.Count == 0)
        {
            return [[]];
        }

        return candidates.Where(p => Misfit(pairs[0], p, "") is null)
            .SelectMany(p => Assignments([.. pairs.Skip(1)], [.. candidates.Where(c => c != p)])
                .Select(rest => (IReadOnlyList<Adapted>)[new Adapted(pairs[0], p), .. rest]));
    }

    private static string? Misfit(Pair pair, ModuleParameter parameter, string module)
    {
        var experts = parameter.Experts ?? 1;
        var name = $"{module}.{parameter.Name} {parameter.Shape}";
        return pair.A.Shape[0] != pair.B.Shape[1] ? $"lora_A {pair.A.Shape.Text()} and lora_B {pair.B.Shape.Text()} do not have one rank"
            : experts == 0 || pair.A.Shape[0] == 0 || pair.A.Shape[0] % experts != 0
            ? $"lora_A {pair.A.Shape.Text()} has {pair.A.Shape[0]} rows, which is no multiple of the {experts} experts of {name}"
            : IsStraight(pair, parameter) || (parameter.Experts is not null && IsCrossed(pair, parameter)) ? null
            : $"lora_A {pair.A.Shape.Text()} and lora_B {pair.B.Shape.Text()} do not fit {name}"
                + $"{(parameter.Experts is null ? "" : " nor its experts transposed")}";
    }

    // A lies along the columns of the stored matrix, or along its rows.
    private static bool IsStraight(Pair pair, ModuleParameter parameter) =>
        pair.A.Shape[1] == parameter.Columns && pair.B.Shape[0] == parameter.Rows;

    private static bool IsCrossed(Pair pair, ModuleParameter parameter) =>
        pair.A.Shape[1] == parameter.Rows && pair.B.Shape[0] == parameter.Columns;

    private IEnumerable<TensorChange> Deltas(AdaptedModule module, Adapted adapted, IReadOnlyList<Adapted> all)
    {
        var (pair, parameter) = adapted;
        var name = $"{module.Name}.{parameter.Name}";
        var experts = parameter.Experts ?? 1;
        var rank = (int)(pair.A.Shape[0] / experts);
        var expected = module.Config.RankOf(name);
        AdaptedModule.Require(
            expected is null || expected == rank,
            $"lora_A {pair.A.Shape.Text()} means rank {rank}{(parameter.Experts is null ? "" : $" for {experts} experts")}, but "
            + $"adapter_config.json gives {name} the rank {expected}");
        var layout = parameter.Experts is null
            ? MoeLoraLayout.RankMajor : MoeLayouts.Of(module.Config, module.Base, parameter.Name).Layout;
        var across = LiesAcross(module, adapted, all);
        var scaling = module.Config.ScalingOf(name, rank);
        for (var e = 0; e < experts; e++)
        {
            var a = new Slice((long)e * rank, rank);
            var b = layout == MoeLoraLayout.Grouped || experts == 1 ? a : new Slice(e, rank, experts);
            foreach (var part in parameter.PartsOf(e))
            {
                var rows = new Slice(part.Row, part.Rows);
                var (left, right) = across
                    ? (pair.MatrixA.Transpose() with { StoredRows = a, StoredColumns = rows, Order = part.Order },
                        pair.MatrixB.Transpose() with { StoredColumns = b })
                    : (pair.MatrixB with { StoredRows = rows, StoredColumns = b, Order = part.Order },
                        pair.MatrixA with { StoredRows = a });
                yield return new TensorChange(part.Tensor, new LowRankTerm(Name, left, right, scaling, part.Place));
            }
        }
    }

    // True if A lies along the rows of the matrix as it is stored. The shape says it, unless it is square.
    private static bool LiesAcross(AdaptedModule module, Adapted adapted, IReadOnlyList<Adapted> all)
    {
        var (pair, parameter) = adapted;
        if (parameter.Experts is null || !(IsStraight(pair, parameter) && IsCrossed(pair, parameter)))
        {
            return parameter.Experts is not null && !IsStraight(pair, parameter);
        }

        // All parameters of a module are adapted alike.
        if (module.Base.MoeOrientation is null
            && all.FirstOrDefault(o => o.Parameter.Experts is not null && !o.Parameter.IsSquare) is { } other)
        {
            return IsCrossed(other.Pair, other.Parameter);
        }

        var last = MoeOrientations.IsLast(module.Config, module.Base, parameter.Experts.Value);
        var transposed = MoeOrientations.IsStoredOtherwise(module.Base, module.Name);
        AdaptedModule.Require(
            last is not null && transposed is not null,
            $"{module.Name}.{parameter.Name} {parameter.Shape} is square, and neither another parameter nor peft_version determines the "
            + "orientation of lora_A: "
            + "use -MoeOrientation InFirst (PEFT up to 0.18) or InLast (PEFT from 0.19.1 on)");
        return last == transposed;
    }

    private sealed record Pair(StoredTensor A, StoredTensor B)
    {
        public FactorMatrix MatrixA => new(A, Transposed: false);

        public FactorMatrix MatrixB => new(B, Transposed: false);
    }

    private sealed record Adapted(Pair Pair, ModuleParameter Parameter);
}
