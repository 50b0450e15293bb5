using System.Collections.Frozen;

namespace UnslothMerge.Models;

/// <summary>A tensor of one expert that a checkpoint stores apart: <c>experts.3.gate_proj.weight</c> is the part <c>gate_proj</c> of expert
/// 3.</summary>
internal sealed record ExpertTensor(int Expert, string Part, string Name);

/// <summary>A parameter of a module by its name in the module, and the name in the checkpoint.</summary>
internal sealed record ModuleTensor(string Parameter, string Name);

/// <summary>A tensor of the checkpoint that a parameter of the running model is made from, or made a part of. The conversion is the rule
/// that lies between them (null: the same values); the tensor is one of its sources, the parameter one of its targets. The number is the
/// expert's, where the rule joins experts.</summary>
internal sealed record Origin(string Name, NameRule? Conversion, int Source, int Target, int? Number);

/// <summary>A tensor of the checkpoint that a stack of experts' matrices (<c>gate_up_proj</c>) is made from.</summary>
internal sealed record StackedTensor(string Parameter, Origin Origin);

/// <summary>
/// Finds the tensors of a checkpoint that a parameter of the running model stands for. Adapters name modules as they were called at run
/// time, by whatever release, or as the checkpoint calls them. Each tensor is indexed under every name that it has on its way through
/// transformers' rules (see <see cref="TransformersData"/>); a name that is not among them is sent through the rules too, and then
/// compared without the containers around the model.
/// Nothing is guessed: a name that fits two tensors is an error.
/// </summary>
internal sealed partial class CheckpointNames
{
    // Modules that hold a model and are missing, or one too many, where it was saved or adapted inside another.
    private static readonly FrozenSet<string>.AlternateLookup<ReadOnlySpan<char>> Containers = new[]
    {
        "model", "language_model", "text_model", "thinker", "transformer", "backbone", "vlm", "module",
    }.ToFrozenSet().GetAlternateLookup<ReadOnlySpan<char>>();

    private readonly ModelClass _class;
    private readonly List<string> _names;
    private readonly Dictionary<(Regex, string), bool> _present = [];
    private readonly Dictionary<string, List<Origin>> _origins = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<ModuleTensor>> _parameters = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<ExpertTensor>> _experts = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<StackedTensor>> _stacks = new(StringComparer.Ordinal);
    private readonly Lazy<Dictionary<string, List<Origin>>> _bareOrigins;
    private readonly Lazy<ILookup<string, string>> _bareModules;

    private Lazy<bool> _prefersStored = new(false);

    /// <summary>Indexes a checkpoint's tensors.</summary>
    public CheckpointNames(IEnumerable<string> names, ModelConfig config)
    {
        _class = ModelClass.Of(config);
        _names = [.. names];
        _names.ForEach(Index);
        _bareOrigins = new(BareOrigins);
        _bareModules = new(() =>
            _parameters.Keys.Concat(_experts.Keys).Concat(_stacks.Keys).Distinct().ToLookup(Bare, StringComparer.Ordinal));
    }

    /// <summary>The class of the model.</summary>
    internal ModelClass Class => _class;

    /// <summary>The name that a tensor of the checkpoint has in the running model.</summary>
    public string AtRunTime(string name) => Way(name)[^1].Alias;

    /// <summary>What a tensor is in the running model: a parameter, or, if a rule converts it, a part of one or of several.</summary>
    internal (NameRule? Conversion, IReadOnlyList<string> Names) Becomes(string name)
    {
        var origin = Way(name)[^1].Origin;
        return (origin.Conversion, Parts(origin));
    }

    /// <summary>Indexes a tensor that the checkpoint leaves out, before any name is looked for without its containers.</summary>
    public void Add(string name)
    {
        _names.Add(name);
        Index(name);
    }

    /// <summary>Where the rules come from, for whoever asks.</summary>
    public string Rules => _class.Description;

    /// <summary>Says what an adapter calls its parameters: all as the checkpoint does, or not. That decides what a name means that one
    /// tensor has in the checkpoint, another at run time.</summary>
    public void Expect(IReadOnlyList<string> parameters) =>
        _prefersStored = new(() =>
            parameters.All(p => IsAmong(p, o => o.Name)) && !parameters.All(p => IsAmong(p, o => Way(o.Name)[^1].Alias)));

    /// <summary>The checkpoint's name of a tensor such as <c>model.layers.0.mlp.up_proj.weight</c> of the running model; null if it has
    /// none of these values.</summary>
    public string? Find(string runtimeName) =>
        Origins(runtimeName) is [{ Conversion: null } origin] ? origin.Name
            // A bias that a class has twice is stored once, and no config tells.
            : runtimeName.EndsWith(".bias", StringComparison.Ordinal) && _class.Tied.GetValueOrDefault(AtRunTime(runtimeName)) is { } shared
                ? Find(shared) : null;

    /// <summary>The tensors of the checkpoint that a parameter is made from, or a part of; one that is it, if there is one.</summary>
    internal IReadOnlyList<Origin> Origins(string runtimeName)
    {
        var way = Way(runtimeName).Where(w => w.Origin.Conversion is null).Select(w => w.Alias).ToList();
        var found = way.Select(n => _origins.GetValueOrDefault(n)).FirstOrDefault(o => o is not null)
            ?? way.Select(n => _bareOrigins.Value.GetValueOrDefault(Bare(n))).FirstOrDefault(o => o is not null) ?? [];
        if (found.Count > 1 && found.Exists(o => o.Conversion is null))
        {
            var whole = found.Where(o => o.Conversion is null).ToList();
            var meant = whole.Where(o => (_prefersStored.Value ? o.Name : Way(o.Name)[^1].Alias) == runtimeName).ToList();
            found = whole.Count == 1 ? whole : meant.Count == 1 ? meant : throw Ambiguous(runtimeName, whole.Select(o => o.Name));
        }

        return found.Count == 0 || found.TrueForAll(o => o.Conversion == found[0].Conversion && o.Target == found[0].Target)
            ? found : throw Ambiguous(runtimeName, found.Select(o => o.Name));
    }

    /// <summary>The parameters that a module has itself, by their name in the module.</summary>
    public IReadOnlyList<ModuleTensor> Parameters(string module)
    {
        var found = Below(module, _parameters);
        var twice = found.GroupBy(p => p.Parameter).FirstOrDefault(g => g.Count() > 1);
        return twice is null ? found : throw Ambiguous($"{module}.{twice.Key}", twice.Select(p => p.Name));
    }

    /// <summary>The tensors of a module's experts, where each has tensors of its own.</summary>
    public IReadOnlyList<ExpertTensor> Experts(string module) => Below(module, _experts);

    /// <summary>The tensors that a module's stacks of experts' matrices are made from.</summary>
    internal IReadOnlyList<StackedTensor> Stacks(string module) => Below(module, _stacks);

    /// <summary>The names at run time of the parts that a tensor of the checkpoint is cut into.</summary>
    internal IReadOnlyList<string> Parts(Origin origin) =>
        [.. Way(origin.Name).Where(w => w.Origin.Conversion == origin.Conversion).GroupBy(w => w.Origin.Target).OrderBy(g => g.Key)
            .Select(g => g.Last().Alias)];

    /// <summary>The names of the checkpoint that are most like a name that it has not; best first.</summary>
    public IReadOnlyList<string> Nearest(string runtimeName, int count = 3)
    {
        var limit = runtimeName.Length / 3;
        return [.. _origins.Where(p => Math.Abs(p.Key.Length - runtimeName.Length) <= limit)
            .Select(p => (p.Value[0].Name, Distance: Distance(runtimeName, p.Key)))
            .Where(n => n.Distance <= limit).OrderBy(n => n.Distance).Select(n => n.Name).Distinct().Take(count)];
    }

    /// <summary>A name without what torch.compile, activation checkpointing and FSDP put around modules, and DDP around the whole
    /// model.</summary>
    public static string Unwrapped(string name) =>
        name.Contains('_', StringComparison.Ordinal) || name.StartsWith("module.", StringComparison.Ordinal)
        ? WrapperPattern().Replace(name, "") : name;

    private bool IsAmong(string name, Func<Origin, string> spelling) =>
        _origins.TryGetValue(name, out var found) && found.Exists(o => spelling(o) == name);

    // Every name that a tensor has on its way to the running model, the checkpoint's first.
    private List<(string Alias, Origin Origin)> Way(string name)
    {
        var origin = new Origin(name, null, 0, 0, null);
        var way = new List<(string, Origin)> { (name, origin) };
        List<string> now = [name];
        foreach (var rule in _class.Rules)
        {
            var converts = rule.Operations.Count > 0;
            if (converts && origin.Conversion is not null)
            {
                continue;
            }

            var renamed = now.ConvertAll(n => rule.Apply(n, IsPresent));
            if (renamed.TrueForAll(r => r is null))
            {
                continue;
            }

            if (converts)
            {
                origin = origin with { Conversion = rule.Keeps ? null : rule, Source = renamed[0]!.Source, Number = renamed[0]!.Number };
            }

            now = [.. now.SelectMany((n, i) => renamed[i]?.Names ?? [n])];
            way.AddRange(now.Select((n, i) => (n, origin.Conversion is null ? origin : origin with { Target = i })));
        }

        return way;
    }

    private void Index(string name)
    {
        foreach (var (alias, origin) in Way(name))
        {
            var origins = Into(_origins, alias);
            if (!HasLately(origins, origin))
            {
                origins.Add(origin);
                Index(alias, origin);
            }
        }
    }

    // A stack of experts may have a hundred thousand origins; those of one tensor follow each other.
    private static bool HasLately(List<Origin> origins, Origin origin)
    {
        var i = origins.Count - 1;
        while (i >= 0 && origins[i].Name == origin.Name && origins[i] != origin)
        {
            i--;
        }

        return i >= 0 && origins[i] == origin;
    }

    private void Index(string alias, Origin origin)
    {
        var dot = alias.LastIndexOf('.');
        var (module, parameter) = (alias[..Math.Max(dot, 0)], alias[(dot + 1)..]);
        if (origin.Conversion is { } conversion)
        {
            if (conversion.StacksExperts)
            {
                Into(_stacks, module).Add(new StackedTensor(parameter, origin));
            }

            return;
        }

        Into(_parameters, module).Add(new ModuleTensor(parameter, origin.Name));
        if (ExpertPattern().Match(alias) is { Success: true } match)
        {
            var expert = int.Parse(match.Groups["expert"].ValueSpan, CultureInfo.InvariantCulture);
            Into(_experts, match.Groups["module"].Value).Add(new ExpertTensor(expert, match.Groups["part"].Value, origin.Name));
        }
    }

    // The rules know the names of tensors: a module is looked up as if it had one without a name.
    private List<T> Below<T>(string module, Dictionary<string, List<T>> index)
    {
        var way = Way(module + ".").Select(w => w.Alias[..^1]).ToList();
        if (way.Select(n => index.GetValueOrDefault(n)).FirstOrDefault(o => o is not null) is { } found)
        {
            return found;
        }

        var bare = way.SelectMany(n => _bareModules.Value[Bare(n)]).Distinct().Where(index.ContainsKey).ToList();
        var lists = bare.Select(n => index[n]).ToList();
        return lists.Count == 0 ? [] : lists.TrueForAll(l => l.SequenceEqual(lists[0])) ? lists[0] : throw Ambiguous(module, bare);
    }

    private bool IsPresent(Regex pattern, string prefix)
    {
        if (!_present.TryGetValue((pattern, prefix), out var present))
        {
            _present.Add((pattern, prefix),
                present = _names.Any(n => n.StartsWith(prefix, StringComparison.Ordinal) && pattern.IsMatch(n[prefix.Length..])));
        }

        return present;
    }

    // A name without the containers that it begins with.
    private string Bare(string name)
    {
        var start = 0;
        for (int dot; (dot = name.IndexOf('.', start)) > 0
            && (Containers.Contains(name.AsSpan(start, dot - start))
                || name.AsSpan(start, dot - start).SequenceEqual(_class.Prefix)); start = dot + 1)
        {
        }

        return name[start..];
    }

    // Most bare names are those of one name, whose list they share: a million names need no second million lists.
    private Dictionary<string, List<Origin>> BareOrigins()
    {
        var bare = new Dictionary<string, List<Origin>>(_origins.Count, StringComparer.Ordinal);
        foreach (var (name, origins) in _origins)
        {
            var key = Bare(name);
            bare[key] = bare.TryGetValue(key, out var others) ? [.. others.Union(origins)] : origins;
        }

        return bare;
    }

    private static MergeException Ambiguous(string name, IEnumerable<string> found) => new(
        MergeError.AdapterDoesNotFit,
        $"The adapter's '{name}' is ambiguous: the base has {string.Join(" and ", found.Order(StringComparer.Ordinal))}, and it could " +
            "mean either.",
        name,
        "Use the base that the adapter was trained on, saved once and not twice under two names.");

    private static List<T> Into<T>(Dictionary<string, List<T>> index, string key)
    {
        if (!index.TryGetValue(key, out var list))
        {
            // Nearly all lists have one element.
            index.Add(key, list = new List<T>(1));
        }

        return list;
    }

    // Levenshtein distance; two rows of the table are enough.
    private static int Distance(string a, string b)
    {
        var previous = Enumerable.Range(0, b.Length + 1).ToArray();
        var current = new int[b.Length + 1];
        for (var i = 1; i <= a.Length; i++)
        {
            current[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                current[j] = Math.Min(Math.Min(current[j - 1], previous[j]) + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
            }

            (previous, current) = (current, previous);
        }

        return previous[^1];
    }

    // The second form is that of gpt-oss as Unsloth splits it: experts.gate_up_projs.3.weight.
    [GeneratedRegex(
        @"^(?<module>.*)\.((?<expert>\d{1,6})\.(?<part>[^.\d][^.]*)|(?<part>gate_up_projs|down_projs)\.(?<expert>\d{1,6}))\.weight$",
        RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex ExpertPattern();

    [GeneratedRegex(@"(?<=^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(module\.)+", RegexOptions.ExplicitCapture)]
    private static partial Regex WrapperPattern();
}
