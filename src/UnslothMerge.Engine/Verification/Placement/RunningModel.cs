namespace UnslothMerge.Verification.Placement;

/// <summary>Some rows of a parameter of the running model, and where a tensor of the checkpoint has them.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Expert">The expert whose matrix they belong to; 0 for a matrix.</param>
/// <param name="First">The first row in the parameter, or in the expert's matrix.</param>
/// <param name="Rows">Their number.</param>
/// <param name="Row">The first row in the tensor, all dimensions but the last being rows.</param>
/// <param name="Turned">True if the tensor has them as columns.</param>
internal sealed record Block(string Tensor, int Expert, long First, long Rows, long Row, bool Turned = false);

/// <summary>A parameter of the running model.</summary>
/// <param name="Name">Its name in its module.</param>
/// <param name="Shape">Its shape; three dimensions where it holds a matrix of each expert.</param>
/// <param name="Blocks">Where its rows are.</param>
internal sealed record Parameter(string Name, IReadOnlyList<long> Shape, IReadOnlyList<Block> Blocks)
{
    /// <summary>True if it is a tensor of the checkpoint as it is.</summary>
    public bool IsTensor { get; init; }

    /// <summary>The parameters whose rows follow each other in the tensor, if the data do not say how many each has.</summary>
    public IReadOnlyList<string> Sharing { get; init; } = [];

    /// <summary>The tensors that it is made of.</summary>
    public IEnumerable<string> Tensors => Blocks.Select(b => b.Tensor).Distinct();
}

/// <summary>The parameters of the running model and the tensors of the checkpoint that they are made of, worked out from transformers' data
/// by code that no planner uses. Adapters name parameters as the running model does, as the checkpoint does, or as an older release did; a
/// name that is none of these is compared without the containers around the model.</summary>
internal sealed class RunningModel
{
    private static readonly string[] Tasks = ["causal", "multimodal", "seq2seq", "speech", "masked", "pretraining", "base"];

    private static readonly string[] Containers =
        ["model", "language_model", "text_model", "thinker", "transformer", "backbone", "vlm", "module"];

    // The stacks of experts' matrices and the experts' own matrices that they join. Source: transformers 5, conversion_mapping.py.
    private static readonly (string Stack, string[] Parts)[] Stacks =
    [
        ("gate_up_proj", ["gate_proj", "up_proj"]), ("gate_up_proj", ["w1", "w3"]), ("gate_up_proj", ["gate_up_projs"]),
        ("down_proj", ["down_proj"]), ("down_proj", ["w2"]), ("down_proj", ["down_projs"]), ("up_proj", ["up_proj"]),
    ];

    // Matrices that some checkpoints keep in one, rows after rows.
    private static readonly (string Joined, string[] Parts)[] Projections =
    [
        ("qkv_proj", ["q_proj", "k_proj", "v_proj"]), ("Wqkv", ["q_proj", "k_proj", "v_proj"]),
        ("in_proj_qkv", ["in_proj_q", "in_proj_k", "in_proj_v"]), ("gate_up_proj", ["gate_proj", "up_proj"]),
    ];

    private readonly IReadOnlyDictionary<string, IReadOnlyList<long>> _shapes;
    private readonly NameRules _rules;

    // By the running model's names, by the checkpoint's, and by all names on the way.
    private readonly Dictionary<string, List<Source>>[] _views = [new(), new(), new()];
    private readonly Lazy<HashSet<string>[]> _modules;
    private readonly Lazy<ILookup<string, Source>> _bare;
    private readonly Lazy<ILookup<string, string>> _children;
    /// <summary>Reads a model.</summary>
    /// <param name="config">Its config.json.</param>
    /// <param name="shapes">The shapes of its tensors.</param>
    public RunningModel(JsonObject config, IReadOnlyDictionary<string, IReadOnlyList<long>> shapes)
    {
        (Config, _shapes) = (config, shapes);
        var type = config.String("model_type") ?? "";
        ClassName = config.Strings("architectures") is [var first, ..] ? first
            : Tasks.Select(t => (string?)TransformersData.Find("auto", t)?[type]).FirstOrDefault(c => c is not null);
        Class = ClassName is null ? null : TransformersData.Find("classes", ClassName) as JsonObject;
        _rules = new NameRules(Class, ClassName, config, [.. shapes.Keys]);
        foreach (var name in shapes.Keys)
        {
            var (all, last) = _rules.Way(name);
            last.ForEach(a => Add(0, name, a));
            Add(1, name, all[0]);
            all.ForEach(a => Add(2, name, a));
        }

        _modules = new(() => [.. _views.Select(v => v.Keys.SelectMany(Above).ToHashSet())]);
        _bare = new(() => _views[2].SelectMany(p => p.Value.Select(s => (Bare: Bare(p.Key), Source: s))).Distinct()
            .ToLookup(p => p.Bare, p => p.Source));
        _children = new(() => _views[2].Keys.Where(k => k.Contains('.', StringComparison.Ordinal)).Select(k => k.LastIndexOf('.') is var dot
            ? (Module: Bare(k[..dot]), Name: k[(dot + 1)..]) : default).Distinct().ToLookup(p => p.Module, p => p.Name));
    }

    /// <summary>The model's config.json.</summary>
    public JsonObject Config { get; }

    /// <summary>The name of its class; null if neither the config nor its model type say one.</summary>
    public string? ClassName { get; }

    /// <summary>What the data have of the class; null if it is not one of transformers' own.</summary>
    public JsonObject? Class { get; }

    /// <summary>The names that are meant first where one means two tensors: 0 for the running model's, 1 for the checkpoint's.</summary>
    public int View { get; set; }

    /// <summary>The first view that has all of an adapter's modules.</summary>
    public int ViewOf(IReadOnlyCollection<string> modules) =>
        Array.FindIndex(_modules.Value, v => modules.All(v.Contains)) is var view and >= 0 ? view : 2;

    /// <summary>The name that a tensor has in the running model.</summary>
    public string AtRunTime(string tensor) => RunsAs(tensor).Name;

    /// <summary>The same, and whether its values are made into others.</summary>
    public (string Name, bool IsConverted) RunsAs(string tensor)
    {
        var (name, conversion) = _rules.Way(tensor).Last[0];
        return (name, conversion is not null);
    }

    /// <summary>True if a name is a module of the model, by any of its names.</summary>
    public bool HasModule(string name) => _children.Value.Contains(Bare(name)) || _rules.Way(name + ".").All.Exists(
        a => _children.Value.Contains(Bare(a.Name[..^1])));

    /// <summary>A parameter by its name; null if the model has none, or several could be meant.</summary>
    public Parameter? Find(string name)
    {
        var found = _views[View].GetValueOrDefault(name);
        if (found is null)
        {
            var names = _rules.Way(name).All.Where(a => a.Conversion is null).Select(a => a.Name).ToList();
            found = names.Select(n => _views[2].GetValueOrDefault(n)).FirstOrDefault(s => s is not null)
                ?? names.Select(n => _bare.Value[Bare(n)].ToList()).FirstOrDefault(s => s.Count > 0);
        }

        return found is null ? Joined(name) : Made(name, found);
    }

    /// <summary>The parameters of a module, stacks of its experts' matrices included.</summary>
    public IReadOnlyList<Parameter> ParametersOf(string module) =>
        [.. _rules.Way(module + ".").All.SelectMany(a => _children.Value[Bare(a.Name.TrimEnd('.'))]).Concat(Stacks.Select(s => s.Stack))
            .Distinct().Select(p => Find($"{module}.{p}")).OfType<Parameter>()];

    /// <summary>The stack that may hold the matrix of one expert's module, and which of the joined matrices that is.</summary>
    public IEnumerable<(Parameter Stack, int Expert, int Index, int Count)> StacksOf(string module) =>
        from match in new[] { Regex.Match(module, @"^(.*)\.(?:(\d+)\.([^.]+)|([^.]+)\.(\d+))$") }
        where match.Success
        let part = match.Groups[3].Value + match.Groups[4].Value
        from row in Stacks
        where row.Parts.Contains(part)
        let stack = Find($"{match.Groups[1].Value}.{row.Stack}")
        where stack is { IsTensor: true, Shape.Count: 3 }
        select (stack, int.Parse(match.Groups[2].Value + match.Groups[5].Value, CultureInfo.InvariantCulture),
            Array.IndexOf(row.Parts, part), row.Parts.Length);

    private void Add(int view, string tensor, Alias alias)
    {
        ref var list = ref CollectionsMarshal.GetValueRefOrAddDefault(_views[view], alias.Name, out _);
        var source = new Source(tensor, alias.Conversion);
        if (!(list ??= []).Contains(source))
        {
            list.Add(source);
        }
    }

    private static IEnumerable<string> Above(string name)
    {
        for (var dot = name.LastIndexOf('.'); dot > 0; dot = name.LastIndexOf('.', dot - 1))
        {
            yield return name[..dot];
        }
    }

    // A name without the containers that it begins with.
    private string Bare(string name)
    {
        var parts = name.Split('.');
        return string.Join(
            '.', parts[..^1].SkipWhile(p => Containers.Contains(p) || p == Class?.String("prefix")).Append(parts[^1]));
    }

    private Parameter? Made(string name, List<Source> sources)
    {
        var parameter = name[(name.LastIndexOf('.') + 1)..];
        var whole = sources.FindAll(s => s.IsWhole);
        if (whole.Count > 1)
        {
            whole = whole.FindAll(s => (View == 1 ? s.Tensor : AtRunTime(s.Tensor)) == name);
        }

        if (sources.Exists(s => s.IsWhole))
        {
            return whole is [var one] ? Whole(parameter, one.Tensor) : null;
        }

        var conversion = sources[0].Conversion!;
        if (!sources.TrueForAll(s => s.Conversion!.Rule == conversion.Rule && s.Conversion.Result == conversion.Result))
        {
            return null;
        }

        var shape = _shapes[sources[0].Tensor];
        var parts = sources.OrderBy(s => s.Conversion!.Number).ThenBy(s => s.Conversion!.Source).Select(s => s.Tensor).ToList();
        var results = conversion.Rule["to"]!.AsArray().Count;
        switch (string.Join(", ", conversion.Operations))
        {
            case "Chunk 0":
                var rows = shape[0] / results;
                return new Parameter(parameter, [rows, .. shape.Skip(1)], [new Block(parts[0], 0, 0, rows, conversion.Result * rows)]);
            case "Split 0":
                var siblings = _rules.Way(parts[0]).Last.Select(a => WithLast(name, a.Name)).ToList();
                return Whole(parameter, parts[0]) with { IsTensor = false, Sharing = siblings };
            case "Transpose 0" when shape.Count == 2:
                return new Parameter(parameter, [shape[1], shape[0]], [new Block(parts[0], 0, 0, shape[1], 0, Turned: true)]);
            case "Concatenate 0":
                return Rows(parameter, parts);
            case "Concatenate 1" when shape.Count == 3:
                return Experts(parameter, [.. Enumerable.Range(0, (int)shape[0]).Select(_ => parts)]);
            case "MergeModulelist 0" or "MergeModulelist 0, Concatenate 1" or "ErnieFuseAndSplitTextVisionExperts":
                var experts = sources.GroupBy(s => s.Conversion!.Number).OrderBy(g => g.Key)
                    .Select(g => g.OrderBy(s => s.Conversion!.Source).Select(s => s.Tensor).ToList()).ToList();
                return Experts(parameter, experts.Chunk((experts.Count + results - 1) / results).ElementAt(conversion.Result));
            default:
                return null;
        }
    }

    // What no rule of the data says: stacks of experts' matrices, and projections that are joined, or are parts of a joined one.
    private Parameter? Joined(string name)
    {
        var parts = name.Split('.');
        var module = string.Join('.', parts[..^1]);
        if (parts[^1] != "weight")
        {
            var isGated = Tensor($"{module}.0.gate_proj.weight") is not null;
            return Stacks.Where(r => r.Stack == parts[^1] && !(isGated && r.Parts is ["up_proj"]))
                .Select(r => Experts(parts[^1], [.. Enumerable.Range(0, int.MaxValue)
                    .Select(e => r.Parts.Select(p => Tensor($"{module}.{e}.{p}.weight") ?? Tensor($"{module}.{p}.{e}.weight")).ToList())
                    .TakeWhile(e => !e.Contains(null)).Select(e => e.ConvertAll(t => t!))]))
                .FirstOrDefault(p => p is not null);
        }

        foreach (var (joined, split) in Projections.Where(_ => parts.Length > 1))
        {
            string Of(string last) => string.Join('.', [.. parts[..^2], last, "weight"]);
            if (parts[^2] == joined && split.Select(s => Tensor(Of(s))).ToList() is var all && !all.Contains(null))
            {
                return Rows("weight", all!);
            }

            if (split.Contains(parts[^2]) && Tensor(Of(joined)) is { } one)
            {
                return Whole("weight", one) with { IsTensor = false, Sharing = [.. split.Select(Of)] };
            }
        }

        return null;
    }

    private string? Tensor(string name) =>
        (_views[2].GetValueOrDefault(name) ?? _bare.Value[Bare(name)]).Where(s => s.IsWhole).Take(2).ToList() is [var only]
            ? only.Tensor : null;

    private Parameter Whole(string name, string tensor)
    {
        var shape = _shapes[tensor];
        var (experts, rows) = shape.Count == 3 ? ((int)shape[0], shape[1]) : (1, shape.Count > 0 ? shape[0] : 1);
        var blocks = Enumerable.Range(0, experts).Select(e => new Block(tensor, e, 0, rows, e * rows));
        return new Parameter(name, shape, [.. blocks]) { IsTensor = true };
    }

    private Parameter Rows(string name, List<string> tensors)
    {
        var rows = tensors.Select(t => _shapes[t][0]).ToList();
        return new Parameter(name, [rows.Sum(), .. _shapes[tensors[0]].Skip(1)],
            [.. tensors.Select((t, i) => new Block(t, 0, rows.Take(i).Sum(), rows[i], 0))]);
    }

    // Of each expert the tensors whose rows are joined: its own, or its slice of a stack.
    private Parameter? Experts(string name, List<string>[] experts)
    {
        if (experts.Length == 0)
        {
            return null;
        }

        var rows = experts[0].Select(t => _shapes[t][^2]).ToList();
        return experts.Any(e => e.Count != rows.Count || e.Where((t, i) => _shapes[t][^2] != rows[i]).Any()) ? null : new Parameter(
            name, [experts.Length, rows.Sum(), _shapes[experts[0][0]][^1]],
            [.. experts.SelectMany((tensors, e) => tensors.Select((t, i) =>
                new Block(t, e, rows.Take(i).Sum(), rows[i], _shapes[t].Count == 3 ? e * rows[i] : 0)))]);
    }

    private static string WithLast(string name, string other)
    {
        var (mine, its) = (name.Split('.'), other.Split('.'));
        return string.Join('.', [.. mine[..^2], its[^2], mine[^1]]);
    }

    private sealed record Source(string Tensor, Conversion? Conversion)
    {
        // A stack that is stored the other way round is whole; its shape tells.
        public bool IsWhole => Conversion is null || Conversion.Operations is ["Transpose 1"];
    }
}
