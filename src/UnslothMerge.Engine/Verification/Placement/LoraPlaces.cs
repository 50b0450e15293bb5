using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Verification.Placement;

/// <summary>A part of a LoRA delta, scale·left·right, and where it lies.</summary>
/// <param name="Tensor">The tensor of the model.</param>
/// <param name="Left">[rows, rank].</param>
/// <param name="Right">[rank, columns].</param>
/// <param name="Scale">The factor before it.</param>
/// <param name="Place">Its first element in the tensor's matrix.</param>
internal sealed record LoraPiece(string Tensor, FactorMatrix Left, FactorMatrix Right, double Scale, MatrixPlace Place);

/// <summary>What only the caller can say of an adapter of experts; null where it did not.</summary>
/// <param name="GroupsExperts">True if B's columns are arranged expert by expert.</param>
/// <param name="LiesLast">True if A lies along the last dimension of a stack.</param>
internal sealed record ExpertChoices(bool? GroupsExperts, bool? LiesLast);

/// <summary>Where each LoRA of an adapter lies in the tensors of a model, expert by expert and row by row. Sources: PEFT 0.21,
/// <c>lora.layer</c> and <c>lora.ParamWrapper</c>; transformers 5, <c>conversion_mapping.py</c>; Unsloth for its markers.</summary>
internal sealed class LoraPlaces(RunningModel model, AdapterFile adapter, ExpertChoices choices)
{
    // Unsloth has grouped B by expert for these; without a marker nothing tells whether it did.
    private static readonly string[] GroupedByUnsloth =
    [
        "deepseek_v3", "ernie4_5_moe", "ernie4_5_vl_moe", "gemma4", "glm4_moe", "glm4_moe_lite", "gpt_oss", "lfm2_moe", "mixtral",
        "qwen3_5_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe",
    ];

    // In this order modules register their parameters, and PEFT wraps them, the first innermost.
    private static readonly string[] Registered = ["gate_up_proj", "gate_proj", "up_proj", "down_proj", "w1", "v1", "w2", "weight"];

    /// <summary>The factors of a pair.</summary>
    public static readonly string[] LoraParts = ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"];

    private readonly HashSet<string> _types = [.. TypesOf(model.Config)];

    /// <summary>The pieces of a module's LoRA; null if these rules do not know where they lie.</summary>
    public IReadOnlyList<LoraPiece>? Of(string module)
    {
        var pairs = adapter.Modules[module].Where(p => LoraParts.Contains(p.Part)).GroupBy(p => p.Depth).OrderBy(g => g.Key).Select(g => (
            A: g.FirstOrDefault(p => p.Part.EndsWith('A'))?.Tensor, B: g.FirstOrDefault(p => p.Part.EndsWith('B'))?.Tensor,
            IsEmbedding: g.Any(p => p.Part == "lora_embedding_A"))).ToList();
        if (pairs.Count == 0 || pairs.Exists(p => p.A is null || p.B is null))
        {
            return null;
        }

        var (a, b, isEmbedding) = (pairs[0].A!, pairs[0].B!, pairs[0].IsEmbedding);
        if (!isEmbedding && a.Shape.Count == 2 && Targets(module) is { Count: > 0 } targets)
        {
            return OfParameters(module, pairs.ConvertAll(p => (p.A!, p.B!)), targets);
        }

        // PEFT up to 0.21 adds it twice, in its forward pass as in its merge.
        var twice = b.Name.Contains(".base_layer.out_proj.", StringComparison.Ordinal) && !(adapter.Release >= new Version(0, 22));
        if (adapter.Scale(module, a.Shape[0]) * (twice ? 2 : 1) is not { } scale)
        {
            return null;
        }

        // QALoRA pools its inputs: the mean of each group, times the number of groups.
        var groups = a.Shape[^1];
        var size = adapter.Config.Bool("use_qalora") == true && model.Find($"{module}.weight") is { Shape: [_, var inputs] }
            && inputs % groups == 0 ? (int)(inputs / groups) : 1;
        var pair = new Pair(a, b, scale * (size == 1 ? 1 : (double)groups / size), size);
        return model.Find($"{module}.weight") is { } weight ? OfWeight(module, weight, pair, isEmbedding)
            : model.StacksOf(module).FirstOrDefault() is { Stack: not null } place ? OfExpert(module, pair, place)
            : model.Find($"{module}.in_proj_weight") is { IsTensor: true } joined ? [pair.Straight(joined.Blocks[0])]
            : null;
    }

    private static IEnumerable<string> TypesOf(JsonObject config) => config.Select(p => p.Value).OfType<JsonObject>().SelectMany(TypesOf)
        .Concat(config.String("model_type") is { } type ? [type] : []);

    // The parameters that were adapted themselves: those that the config names, or stacks of a module that has no other weight.
    private List<Parameter> Targets(string module)
    {
        var all = model.ParametersOf(module).Where(p => p.Shape.Count is 2 or 3).ToList();
        var names = adapter.Config.Strings("target_parameters");
        var named = all.FindAll(p => names.Any(n => $".{module}.{p.Name}".EndsWith($".{n}", StringComparison.Ordinal)));
        return named.Count > 0 ? named : all.FindAll(p => p.Shape.Count == 3);
    }

    private List<LoraPiece>? OfWeight(string module, Parameter weight, Pair pair, bool isEmbedding)
    {
        if (isEmbedding)
        {
            return weight.IsTensor ? [pair.Across(weight.Blocks[0])] : null;
        }

        if (!weight.IsTensor)
        {
            return weight.Sharing.Count > 0 ? OfShared(weight, pair)
                : [.. weight.Blocks.Select(b => b.Turned ? pair.Across(b) : pair.Straight(b))];
        }

        // A convolution is a matrix of its outputs by all else.
        var block = weight.Blocks[0] with { Rows = weight.Shape[0] };
        return [IsConv1D(module, weight, pair) ? pair.Across(block) : pair.Straight(block)];
    }

    // transformers' Conv1D keeps [in, out]. Its models are few; elsewhere shapes tell, and for a square weight with a bias the config.
    private bool IsConv1D(string module, Parameter weight, Pair pair)
    {
        if (weight.Shape.Count != 2)
        {
            return false;
        }

        var (straight, across) = (Fits(pair, weight, across: false), Fits(pair, weight, across: true));
        if (straight != across)
        {
            return across;
        }

        var isKnown = model.Config.String("model_type") is not (null or "" or "custom") && model.Config["auto_map"] is null;
        return isKnown ? _types.Overlaps(["gpt2", "openai-gpt", "imagegpt", "decision_transformer"])
                && Regex.IsMatch(module, @"\.(attn|crossattention)\.(c_attn|q_attn|c_proj)$|\.mlp\.(c_fc|c_proj)$")
            : adapter.Config.Bool("fan_in_fan_out") == true && model.Find($"{module}.bias") is not null;
    }

    // The rows of each of the modules that share a tensor: as the adapter has them, or the config.
    private List<LoraPiece>? OfShared(Parameter weight, Pair pair)
    {
        var own = weight.Sharing.Select(s => s[..s.LastIndexOf('.')])
            .Select(m => adapter.Modules[m].FirstOrDefault(p => p.Part == "lora_B")?.Tensor).ToArray();
        var (rows, mine) = (Array.ConvertAll(own, t => t?.Shape[0]), Array.IndexOf(own, pair.B));
        if (rows.Length == 2)
        {
            rows = [rows[0] ?? rows[1], rows[1] ?? rows[0]];
        }
        else if (rows.Length == 3)
        {
            rows = [rows[0], rows[1] ?? rows[2], rows[2] ?? rows[1]];
            var text = ExpectedModel.Levels(model.Config).Last();
            var heads = text.Number("num_attention_heads");
            var size = text.Number("head_dim") ?? (text.Number("hidden_size") / heads);
            var keys = (text.Number("num_key_value_heads") ?? heads) * size;
            rows = [rows[0] ?? (long?)(heads * size), rows[1] ?? (long?)keys, rows[2] ?? (long?)keys];
        }

        if (rows.Count(r => r is null) == 1)
        {
            rows = [.. rows.Select(r => r ?? (weight.Shape[0] - rows.Sum()))];
        }

        return mine < 0 || rows.Sum() != weight.Shape[0] || rows[mine] != pair.B.Shape[0] ? null
            : [pair.Straight(new Block(weight.Blocks[0].Tensor, 0, 0, rows[mine]!.Value, rows.Take(mine).Sum() ?? 0))];
    }

    // One expert's own LoRA on a stack.
    private List<LoraPiece>? OfExpert(string module, Pair pair, (Parameter Stack, int Expert, int Index, int Count) place)
    {
        var (stack, expert, index, count) = place;
        var (rows, columns) = (pair.B.Shape[0], pair.A.Shape[1]);
        var straight = stack.Shape[1] == count * rows && stack.Shape[2] == columns;
        var across = stack.Shape[1] == columns && stack.Shape[2] == count * rows;
        if (expert >= stack.Shape[0] || !(straight || across) || (count > 1 && _types.Contains("gpt_oss")))
        {
            return null;
        }

        var parent = module[..module.LastIndexOf(".experts.", StringComparison.Ordinal)] + ".experts";
        var first = index * rows;
        return across && (!straight || IsStoredAcross(parent) == true)
            ? [pair.Across(new Block(stack.Blocks[0].Tensor, 0, 0, columns, expert * columns), checked((int)first))]
            : [pair.Straight(new Block(stack.Blocks[0].Tensor, 0, 0, rows, (expert * stack.Shape[1]) + first))];
    }

    // LoRA on parameters themselves; of several, each wrapper has one.
    private List<LoraPiece>? OfParameters(string module, List<(StoredTensor A, StoredTensor B)> pairs, List<Parameter> targets)
    {
        var order = targets.OrderByDescending(t => Array.IndexOf(Registered, t.Name)).ToList();
        var assigned = Assign(pairs, order)?.ToList();
        if (assigned is null)
        {
            return null;
        }

        var (pieces, all) = (new List<LoraPiece>(), pairs.Zip(assigned, (p, t) => (Pair: new Pair(p.A, p.B), Target: t)).ToList());
        foreach (var (pair, target) in all)
        {
            var (a, b) = (pair.A, pair.B);
            var experts = target.Shape.Count == 3 ? (int)target.Shape[0] : 1;
            var rank = a.Shape[0] / experts;
            if (adapter.Scale($"{module}.{target.Name}", rank) is not { } scale || IsGrouped(target.Name) is not { } grouped
                || LiesAcross(module, pair, target, all) is not { } across)
            {
                return null;
            }

            foreach (var block in target.Blocks)
            {
                var ofA = new Slice(block.Expert * rank, rank);
                var ofB = grouped || experts == 1 ? ofA : new Slice(block.Expert, rank, experts);
                var rows = new Slice(block.First, block.Rows);
                var place = new MatrixPlace(block.Row, 0);
                pieces.Add(across
                    ? new LoraPiece(block.Tensor, new FactorMatrix(a, true) { StoredRows = ofA, StoredColumns = rows },
                        new FactorMatrix(b, true) { StoredColumns = ofB }, scale, place)
                    : new LoraPiece(block.Tensor, new FactorMatrix(b, false) { StoredRows = rows, StoredColumns = ofB },
                        new FactorMatrix(a, false) { StoredRows = ofA }, scale, place));
            }
        }

        return pieces;
    }

    // The first assignment of pairs to parameters, in the order of the modules' wrappers, that fits.
    private static IEnumerable<Parameter>? Assign(List<(StoredTensor A, StoredTensor B)> pairs, List<Parameter> targets) =>
        pairs.Count == 0 ? [] : targets
            .Where(t => new Pair(pairs[0].A, pairs[0].B) is var p && (Fits(p, t, false) || (t.Shape.Count == 3 && Fits(p, t, true))))
            .Select(t => Assign([.. pairs.Skip(1)], [.. targets.Where(o => o != t)])?.Prepend(t)).FirstOrDefault(r => r is not null);

    private static bool Fits(Pair pair, Parameter target, bool across)
    {
        var experts = target.Shape.Count == 3 ? target.Shape[0] : 1;
        var (rows, columns) = across ? (target.Shape[^1], target.Shape[^2]) : (target.Shape[^2], target.Shape[^1]);
        return pair.A.Shape[0] % experts == 0 && pair.A.Shape[0] == pair.B.Shape[1] && pair.B.Shape[0] == rows
            && pair.A.Shape[1] == columns;
    }

    // True if A lies along the rows of the matrices as they are stored.
    private bool? LiesAcross(string module, Pair pair, Parameter target, List<(Pair Pair, Parameter Target)> all)
    {
        if (target.Shape.Count != 3 || !Fits(pair, target, false) || !Fits(pair, target, true))
        {
            return target.Shape.Count == 3 && !Fits(pair, target, false);
        }

        if (choices.LiesLast is null
            && all.Find(o => o.Target.Shape.Count == 3 && o.Target.Shape[1] != o.Target.Shape[2]) is { Target: not null } other)
        {
            return Fits(other.Pair, other.Target, true);
        }

        // PEFT's releases differ; modules that say is_transposed keep [in, out].
        var turned = _types.Overlaps(["gpt_oss", "aria", "aria_text"]);
        var last = choices.LiesLast ?? (target.Shape[0] == 1 ? true
            : adapter.Release is not { } release ? (turned ? false : null)
            : release >= new Version(0, 19, 1) ? !turned : release >= new Version(0, 19, 0) && turned);
        var otherwise = _types.Overlaps(["qwen3_vl_moe", "qwen3_vl_moe_text"]) ? IsStoredAcross(module) : !target.IsTensor && turned;
        return last is null || otherwise is null ? null : last == otherwise;
    }

    // True if a module's stacks are stored [in, out]: gate_up_proj has twice the rows that down_proj has columns.
    private bool? IsStoredAcross(string module)
    {
        if (model.Find($"{module}.gate_up_proj")?.Shape is [_, var up, var inner]
            && model.Find($"{module}.down_proj")?.Shape is [_, var outer, var down]
            && (up == 2 * down && inner == outer) is var straight && straight != (inner == 2 * outer && up == down))
        {
            return !straight;
        }

        return _types.Overlaps(["gpt_oss", "aria", "aria_text", "llama4", "llama4_text"]) ? true : null;
    }

    // How B's columns are arranged: what Unsloth wrote of the parameter, or else of the adapter; null if that does not tell.
    private bool? IsGrouped(string parameter)
    {
        var places = new[] { adapter.Config, adapter.Config["auto_mapping"] as JsonObject }.OfType<JsonObject>().ToList();
        var own = places.Select(p => ((p["unsloth_fused_expert_lora"] as JsonObject)?["parameters"] as JsonObject)?
            .FirstOrDefault(d => $".{d.Key}".EndsWith($".{parameter}", StringComparison.Ordinal)).Value as JsonObject)
            .Select(d => d?["lora_B_layout"]).OfType<JsonNode>().ToList();
        var said = (own.Count > 0 ? own : [.. places.Select(p => p["lora_B_layout"]).OfType<JsonNode>()])
            .Select(n => Regex.Replace(n.ToString(), "[-_]", "").ToLowerInvariant()).Distinct().ToList();
        return choices.GroupsExperts ?? said switch
        {
            [] or [""] => places.Exists(p => p.Bool("unsloth_fixed") == true) && adapter.Config.Strings("target_parameters").Count > 0
                && Array.Exists(GroupedByUnsloth, g => _types.Contains(g) || _types.Contains($"{g}_text")) ? null : false,
            ["rankmajor"] or ["peft"] => false,
            ["grouped"] or ["groupedbyexpert"] or ["expertmajor"] => true,
            _ => null,
        };
    }

    private sealed record Pair(StoredTensor A, StoredTensor B, double Scale = 1, int Group = 1)
    {
        // B·A, or the rows of it that a block has.
        public LoraPiece Straight(Block block) => new(
            block.Tensor, new FactorMatrix(B, false) { StoredRows = new Slice(block.First, block.Rows) },
            new FactorMatrix(A, false) { Repeat = Group }, Scale, new MatrixPlace(block.Row, 0));

        // (B·A)ᵀ.
        public LoraPiece Across(Block block, int column = 0) =>
            new(block.Tensor, new FactorMatrix(A, true), new FactorMatrix(B, true), Scale, new MatrixPlace(block.Row, column));
    }
}
