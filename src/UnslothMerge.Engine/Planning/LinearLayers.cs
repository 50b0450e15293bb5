namespace UnslothMerge.Planning;

/// <summary>What the readers of a format take, and what the caller wants beyond that.</summary>
/// <param name="Conv1D">True if they take transformers' <c>Conv1D</c>.</param>
/// <param name="Experts">True if they take experts' matrices that lie apart on disk and in one stack in the running model.</param>
/// <param name="Block">The rows of a block; null if no scale is shared by rows.</param>
/// <param name="Given">What the base has decided of a tensor: why it stays in 16 bits, or <see cref="Codes"/>; null if
/// nothing.</param>
internal sealed record ReaderRules(bool Conv1D, bool Experts, int? Block, Func<LogicalTensor, string?> Given)
{
    /// <summary>It becomes codes.</summary>
    public const string Codes = "";

    /// <summary>Why a format cannot cut a matrix, null if it can; null for a format that cuts all. One that may refuse some also cuts
    /// stacks of experts' matrices into single ones, and is quantized for readers of compressed-tensors alone, whose lists name whole
    /// modules.</summary>
    public Func<Layer, string?>? Cut { get; init; }
}

/// <summary>
/// The matrices that a quantization of a whole model takes: what readers of the model's class swap, but for what the base keeps in 16 bits,
/// heads, routers and the towers of other modalities. Source: transformers' quantizers (<see cref="ClassLinears"/>); Unsloth's list of
/// modules to skip.
/// </summary>
internal sealed partial class LinearLayers
{
    /// <summary>The reason of what the base has in 16 bits.</summary>
    public const string KeptByBase = "that the base keeps in 16 bits";

    private const string Experts = "of experts, which transformers 5 cannot load in 4 bits (-Include *.experts.* for older readers)";
    private const string Towers = "of towers of other modalities, and projectors";
    private const string Mamba = "of Mamba's layers";

    // The lists of the various methods.
    private static readonly string[] SkipKeys = ["llm_int8_skip_modules", "modules_to_not_convert", "ignore"];

    // What stays in 16 bits although readers swap it, by a part of its path.
    private static readonly (string Reason, string[] Parts)[] Sensitive =
    [
        ("of heads", ["lm_head", "embed_out", "score", "classifier"]),
        ("of routers", ["router", "gate", "shared_expert_gate"]),
        (Towers,
            [
                "multi_modal_projector", "merger", "modality_projection", "visual", "vision_tower", "vision_model", "audio_tower",
                "audio_model",
            ]),
    ];

    // Of an export, also what vLLM keeps so.
    private static readonly (string Reason, string[] Parts)[] SensitiveInExports =
        [("of linear attention", ["linear_attn"]), ("of layers that predict further tokens", ["mtp"])];

    // Embeddings whose names do not say so.
    private static readonly string[] Embeddings = ["relative_attention_bias", "wte", "wpe", "shared"];

    private readonly MergePlan _merge;
    private readonly ReaderRules _rules;
    private readonly ModelClass _class;
    private readonly ClassLinears? _linears;
    private readonly ModuleList? _include;
    private readonly ModuleList? _exclude;
    private readonly ModuleList? _skipped;
    private readonly HashSet<string> _mamba;
    private readonly IReadOnlyList<string> _defaults;
    private readonly Dictionary<int, Layer> _layers;
    private readonly Dictionary<string, IReadOnlyList<long>> _shapes;

    /// <summary>Decides for one merge.</summary>
    /// <param name="merge">The merge.</param>
    /// <param name="request">What the caller wants.</param>
    /// <param name="rules">What readers take.</param>
    public LinearLayers(MergePlan merge, OutputRequest request, ReaderRules rules)
    {
        (_merge, _rules) = (merge, rules);
        _include = request.Include.Count == 0 ? null : new ModuleList(request.Include, MergeError.InvalidOption, "-Include");
        _exclude = request.Exclude.Count == 0 ? null : new ModuleList(request.Exclude, MergeError.InvalidOption, "-Exclude");
        var names = new CheckpointNames(MergePlan.NamesOf(merge.Tensors), merge.Config);
        _class = names.Class;
        _linears = ClassLinears.Of(_class);
        var tied = _class.Tied.SelectMany(p => new[] { p.Key, p.Value }).Select(WithoutWeight);
        _defaults = _linears is null ? ["lm_head", "embed_out"] : [.. new[] { _linears.Head }.OfType<string>().Concat(tied).Distinct()];
        _skipped = merge.Base.Config.Quantization is not { } quantization ? null
            : new ModuleList(SkipKeys.SelectMany(quantization.Strings), MergeError.InvalidModel, $"the skip list of '{merge.Base.Path}'");
        _shapes = merge.Tensors.ToDictionary(t => t.Name, t => t.Shape, StringComparer.Ordinal);
        var all = _shapes.Keys;
        _mamba = [.. all.Where(n => n.EndsWith(".A_log", StringComparison.Ordinal)).Select(TensorNames.ModuleOf)
            .Where(m => _shapes.ContainsKey(m + ".in_proj.weight"))];
        _layers = merge.Tensors.Select(t => Read(t, names)).OfType<Layer>().ToDictionary(l => l.Tensor.Ordinal);
        var unused = request.Include.Concat(request.Exclude).FirstOrDefault(e =>
            new ModuleList([e], MergeError.InvalidOption, "-Include") is var one && !All.Any(l => Matches(one, l)));
        if (unused is not null)
        {
            throw new MergeException(
                MergeError.InvalidOption, $"'{unused}' names none of the {All.Count} matrices that can be quantized.", "Include",
                "Get-ModelTensor lists the names; -Include and -Exclude take a module's whole name, its end, a part with *, or re:.");
        }

        Decide();
    }

    /// <summary>Where the knowledge of what readers swap comes from.</summary>
    public string Source => _linears is null
        ? $"general rules, as transformers {TransformersData.Version}'s data do not have {_class.Name ?? "the class"}"
        : $"transformers {TransformersData.Version}'s data of {_class.Name}";

    /// <summary>The matrices.</summary>
    public IReadOnlyCollection<Layer> All => _layers.Values;

    /// <summary>How many stay in 16 bits, and why: a line a reason.</summary>
    public IEnumerable<string> Reasons => All.Where(l => l.Kept is not null).GroupBy(l => l.Kept)
        .Select(g => $"{g.Count()} {g.Key}: {g.First().Module}{(g.Count() > 1 ? " …" : "")}");

    /// <summary>What the user should know; null if there is nothing.</summary>
    public string? Warning => All.Count(l => l.Kept == Experts) is > 0 and var count ? $"{count} matrices {Experts} stay in 16 bits."
        : All.Where(l => l.Kept is not null && l.Kept == _rules.Cut?.Invoke(l)).ToList() is { Count: > 0 } uncut
            ? $"{uncut.Count} of the matrices, {uncut[0].Kept}, stay in 16 bits, with what vLLM joins to them: "
            + $"{string.Join(", ", uncut.Take(8).Select(l => l.Module))}{(uncut.Count > 8 ? " …" : "")}."
        : null;

    /// <summary>The matrix that a tensor is, if it becomes codes; else null.</summary>
    public Layer? Find(LogicalTensor tensor) => _layers.GetValueOrDefault(tensor.Ordinal) is { Kept: null } layer ? layer : null;

    /// <summary>The matrix that a tensor is, in codes or not; null if it is none that readers swap.</summary>
    public Layer? Of(LogicalTensor tensor) => _layers.GetValueOrDefault(tensor.Ordinal);

    /// <summary>True if a reader that is told nothing skips the same modules: the heads, and what is tied to them.</summary>
    public bool AreDefault => Skips.All(_defaults.Contains)
        && !All.Any(l => l.Kept is null && l.FullNames.Any(n => _defaults.Any(d => IsSkippedBy(d, n))));

    /// <summary>The modules that stay in 16 bits, under all their names, heads first; experts' by a name of all of them.</summary>
    public IReadOnlyList<string> Skips { get; private set; } = [];

    /// <summary>Those of <see cref="Skips"/> that hold experts.</summary>
    public IReadOnlySet<string> SkippedExperts { get; private set; } = new HashSet<string>();

    /// <summary>The same for compressed-tensors, which names single modules; vLLM has its own names before the layers.</summary>
    public IEnumerable<string> Ignored => Skips.Select(s => SkippedExperts.Contains(s)
        ? $@"re:.*{Regex.Escape(s[Math.Max(0, s.IndexOf("layers.", StringComparison.Ordinal))..])}\..*" : s).Distinct();

    /// <summary>True if an entry of a skip list matches a module: by the beginning of its path, up to a dot, or as an ending. Source:
    /// transformers 5, <c>should_convert_module</c>.</summary>
    public static bool IsSkippedBy(string entry, string module) =>
        module.EndsWith(entry, StringComparison.Ordinal) || module.StartsWith(entry + ".", StringComparison.Ordinal);

    private Layer? Read(LogicalTensor tensor, CheckpointNames names)
    {
        if (tensor.Shape.Count < 2 || tensor.View.Count == 0 || !tensor.Type.IsPlainFloat())
        {
            return null;
        }

        var (conversion, runtime) = names.Becomes(tensor.Name);
        var full = runtime.Select(n => WithoutWeight(n)).Select(n => _linears?.FullName(n) ?? n).ToList();
        var kind = _linears?.KindOf(full[0]) ?? WeightKind.Other;
        if (_linears is null)
        {
            kind = LooksLinear(tensor) ? WeightKind.Linear
                : tensor.Shape.Count == 3 && tensor.Name.Contains(".experts.", StringComparison.Ordinal) ? WeightKind.Experts : kind;
        }

        return kind == WeightKind.Other && !LooksLinear(tensor) ? null
            : new Layer(tensor, WithoutWeight(tensor.Name), full, kind, conversion)
            {
                Fused = _rules.Cut is not null && tensor.Shape.Count == 3 ? FusedExperts.Of(tensor.Name, n => _shapes.GetValueOrDefault(n))
                    : null,
            };
    }

    private void Decide()
    {
        var kept = All.ToDictionary(l => l, Reason);

        // Towers are kept for the sake of a language model; a model that is nothing else has none.
        var hasOthers = kept.ContainsValue(null);
        foreach (var (layer, reason) in kept)
        {
            layer.Kept = (!hasOthers && reason is Towers or Mamba ? null : reason) ?? _rules.Cut?.Invoke(layer);
        }

        var sets = new FusedSets(_merge.Config, _rules.Block);
        bool changed;
        do
        {
            sets.Apply(All.Where(l => _rules.Given(l.Tensor) is null));
            ListSkips();
            var clash = All.Where(l => _rules.Cut is null && l.Kept is null && l.Experts.Count == 0
                    && Skips.Any(s => l.FullNames.Any(n => IsSkippedBy(s, n))))
                .ToList();
            clash.ForEach(l => l.Kept = "whose names end as that of a module in 16 bits, with which readers skip them");
            changed = clash.Count > 0;
        }
        while (changed);
    }

    private string? Reason(Layer layer)
    {
        var tensor = layer.Tensor;
        var isExpert = layer.Experts.Count > 0;
        return Matches(_exclude, layer) ? "of -Exclude"
            : _rules.Given(tensor) is { } given ? given == ReaderRules.Codes ? null : given
            : _rules.Cut is null && Matches(_skipped, layer) ? KeptByBase
            : tensor.Shape.Count > 2 && layer.Fused is null
                ? isExpert ? "of experts that are stacked in one tensor" : "that are no matrices on disk"
            : layer.Kind switch
            {
                WeightKind.Other => $"that are no linear layers of {_class.Name}",
                WeightKind.Subclass => "that are no plain nn.Linear",
                WeightKind.Fp32 => "that transformers keeps in fp32",
                WeightKind.Conv1D when !_rules.Conv1D => "that are Conv1D and not nn.Linear",
                WeightKind.Linear or WeightKind.Experts when layer.IsConverted && layer.Fused is null =>
                    "that transformers joins or cuts when it loads them",
                WeightKind.Linear when layer.Experts.Count == 0 && !tensor.Name.EndsWith(".weight", StringComparison.Ordinal) =>
                    "whose stored names do not end in .weight, so that readers do not find their scales",
                WeightKind.Experts when !_rules.Experts && !Matches(_include, layer) => Experts,
                _ => Matches(_include, layer) ? null : ReasonOfPlace(layer),
            };
    }

    private string? ReasonOfPlace(Layer layer)
    {
        var parts = layer.Names.SelectMany(n => n.Split('.')).ToHashSet(StringComparer.Ordinal);
        var sensitive = _rules.Cut is null ? Sensitive : Sensitive.Concat(SensitiveInExports);
        return layer.FullNames.Any(n => n == _linears?.Head || _class.Tied.ContainsKey(n + ".weight")) ? Sensitive[0].Reason
            : sensitive.FirstOrDefault(s => s.Parts.Any(parts.Contains)).Reason
            ?? (_rules.Cut is not null && parts.Any(TowerPattern().IsMatch) ? Towers : null)
            ?? (_mamba.Contains(TensorNames.ModuleOf(layer.Module)) ? Mamba : null);
    }

    // Heads are named even where they are not stored: a reader swaps them all the same.
    private void ListSkips()
    {
        var heads = (_linears is null ? ["lm_head"] : _defaults.Where(h => _linears.KindOf(h) != WeightKind.Other))
            .Where(h => !All.Any(l => l.Kept is null && l.FullNames.Contains(h)));
        var kept = All.Where(l => l.Kept is not null).ToList();
        SkippedExperts = kept.SelectMany(l => l.Experts).ToHashSet(StringComparer.Ordinal);
        Skips = [.. heads.Concat(kept.SelectMany(l => l.Experts.Count > 0 ? l.Experts : l.Names)).Distinct()];
    }

    private static bool Matches(ModuleList? list, Layer layer) =>
        list is not null && (layer.Names.Any(list.Names) || layer.Fused?.Modules.Any(list.Names) == true);

    [GeneratedRegex("vision|visual|audio|speech|image|projector|connector|resampler", RegexOptions.CultureInvariant)]
    private static partial Regex TowerPattern();

    private static string WithoutWeight(string name) =>
        name.EndsWith(".weight", StringComparison.Ordinal) ? TensorNames.ModuleOf(name) : name;

    private static bool LooksLinear(LogicalTensor tensor) =>
        tensor.Shape.Count == 2 && tensor.Name.EndsWith(".weight", StringComparison.Ordinal)
        && !tensor.Name.Contains("norm", StringComparison.Ordinal)
        && tensor.Name.Split('.')[^2] is var name && !Embeddings.Contains(name)
        && (!name.Contains("embed", StringComparison.Ordinal) || name == "embed_out");
}
