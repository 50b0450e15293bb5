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
/// transformers' rules (see <see cref="TransformersData"/>), by the form of that name (<see cref="NameForms"/>); a name that is not among
/// them is sent through the rules too, and then compared without the containers around the model.
/// Nothing is guessed: a name that fits two tensors is an error.
/// </summary>
internal sealed partial class CheckpointNames
{
    // How many names the nearest ones are looked for among.
    private const int MaxCompared = 10_000;

    private readonly ModelClass _class;
    private readonly NameForms _forms;
    private readonly Dictionary<string, TensorForm> _byForm = new(StringComparer.Ordinal);
    private readonly IReadOnlyList<string> _names;
    private readonly List<string> _added = [];
    private readonly NameIndex _places;
    private readonly Dictionary<(Regex, string), bool> _present = [];
    private readonly FormIndex<string> _origins;
    private readonly FormIndex<string> _parameters;
    private readonly FormIndex<(int ExpertSlot, string Part)> _experts;
    private readonly FormIndex<string> _stacks;

    private Lazy<bool> _prefersStored = new(false);

    /// <summary>Indexes a checkpoint's tensors.</summary>
    public CheckpointNames(IReadOnlyList<string> names, ModelConfig config)
    {
        _class = ModelClass.Of(config);
        _forms = new NameForms(_class.Rules);
        _names = names;
        _places = new NameIndex(NameAt, names.Count + 1);
        (_origins, _parameters, _experts, _stacks) = (New<string>(), New<string>(), New<(int, string)>(), New<string>());
        for (var place = 0; place < _names.Count; place++)
        {
            Index(place);
        }

        FormIndex<T> New<T>() => new(_forms, PlaceOf, NumbersOf, Bare);
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
        _added.Add(name);
        Index(_names.Count + _added.Count - 1);
    }

    /// <summary>The place of a tensor in the checkpoint; -1 if it has none of that name.</summary>
    public int PlaceOf(string name) => _places.Find(name);

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
        var found = way.Select(Named).FirstOrDefault(o => o.Count > 0) ?? way.Select(Alike).FirstOrDefault(o => o.Count > 0) ?? [];
        if (found.Count > 1 && found.Exists(o => o.Conversion is null))
        {
            var whole = found.Where(o => o.Conversion is null).ToList();
            var meant = whole.Where(o => (_prefersStored.Value ? o.Name : Way(o.Name)[^1].Alias) == runtimeName).ToList();
            found = whole.Count == 1 ? whole : meant.Count == 1 ? meant : throw Ambiguous(runtimeName, whole.Select(o => o.Name));
        }

        return found.Count == 0 || found.TrueForAll(o => o.Conversion == found[0].Conversion && o.Target == found[0].Target)
            ? found : throw Ambiguous(runtimeName, found.Select(o => o.Name));
    }

    /// <summary>True if experts have tensors of their own, or stacks are made from several.</summary>
    public bool HasExperts => !_experts.IsEmpty || !_stacks.IsEmpty;

    /// <summary>The parameters that a module has itself, by their name in the module.</summary>
    public IReadOnlyList<ModuleTensor> Parameters(string module)
    {
        var found = Below(module, _parameters, f => new ModuleTensor(f.Detail, NameAt(f.Place)));
        var twice = found.GroupBy(p => p.Parameter).FirstOrDefault(g => g.Count() > 1);
        return twice is null ? found : throw Ambiguous($"{module}.{twice.Key}", twice.Select(p => p.Name));
    }

    /// <summary>The tensors of a module's experts, where each has tensors of its own.</summary>
    public IReadOnlyList<ExpertTensor> Experts(string module) => Below(
        module, _experts,
        f => new ExpertTensor(NameStep.Value(f.Detail.ExpertSlot, NumbersOf(f.Place)), f.Detail.Part, NameAt(f.Place)));

    /// <summary>The tensors that a module's stacks of experts' matrices are made from.</summary>
    internal IReadOnlyList<StackedTensor> Stacks(string module) =>
        Below(module, _stacks, f => new StackedTensor(f.Detail, OriginOf(f)));

    /// <summary>The names at run time of the parts that a tensor of the checkpoint is cut into.</summary>
    internal IReadOnlyList<string> Parts(Origin origin) =>
        [.. Way(origin.Name).Where(w => w.Origin.Conversion == origin.Conversion).GroupBy(w => w.Origin.Target).OrderBy(g => g.Key)
            .Select(g => g.Last().Alias)];

    /// <summary>The names of the checkpoint that are most like a name that it has not; best first. Of a model of many tensors those of
    /// each form that come first are looked at.</summary>
    public IReadOnlyList<string> Nearest(string runtimeName, int count = 3)
    {
        var limit = runtimeName.Length / 3;
        var ofEach = Math.Max(1, MaxCompared / Math.Max(1, _byForm.Count));
        var names = _byForm.Values.SelectMany(f => f.Places.Take(ofEach)).Take(MaxCompared).Order().Select(NameAt);
        return [.. names.SelectMany(n => Way(n).Select(w => (w.Alias, Name: n)))
            .Where(n => Math.Abs(n.Alias.Length - runtimeName.Length) <= limit)
            .Select(n => (n.Alias, n.Name, Distance: Distance(runtimeName, n.Alias)))
            .Where(n => n.Distance <= limit).DistinctBy(n => n.Alias).OrderBy(n => n.Distance).Select(n => n.Name).Distinct()
            .Take(count)];
    }

    /// <summary>A name without what torch.compile, activation checkpointing and FSDP put around modules, and DDP around the whole
    /// model.</summary>
    public static string Unwrapped(string name) =>
        name.Contains("_orig_mod.", StringComparison.Ordinal) || name.Contains("_wrapped_module.", StringComparison.Ordinal)
            || name.StartsWith("module.", StringComparison.Ordinal)
        ? WrapperPattern().Replace(name, "") : name;

    private bool IsAmong(string name, Func<Origin, string> spelling) => Named(name).Exists(o => spelling(o) == name);

    /// <summary>What a name stands for, by itself.</summary>
    internal List<Origin> Named(string name) => [.. _origins.Find(name).Select(OriginOf)];

    // What names stand for that are this one but for the containers before them; names in the order of their first tensors.
    private List<Origin> Alike(string name) =>
    [
        .. _origins.Alike(name).Select(_origins.Find).Where(f => f.Count > 0).OrderBy(f => f[0].Place).ThenBy(f => f[0].Step)
            .SelectMany(f => f).Select(OriginOf).Distinct(),
    ];

    private Origin OriginOf(FoundStep<string> found) =>
        found.Form.Steps[found.Step].Origin(NameAt(found.Place), NumbersOf(found.Place));

    private IEnumerable<string> All => _names.Concat(_added);

    private string NameAt(int place) => place < _names.Count ? _names[place] : _added[place - _names.Count];

    private ReadOnlySpan<int> NumbersOf(int place) => FormOf(NameAt(place)).Numbers;

    /// <summary>Every name that a tensor has on its way to the running model, the checkpoint's first; by its form.</summary>
    internal List<(string Alias, Origin Origin)> Way(string name)
    {
        var of = FormOf(name);
        var way = new List<(string, Origin)>(of.Form.Steps.Count);
        foreach (var step in of.Form.Steps)
        {
            way.Add((step.Alias(of.Numbers), step.Origin(name, of.Numbers)));
        }

        return way;
    }

    // The form of a name, with all that the rules make of it, and the name's numbers.
    private FormOfName FormOf(string name)
    {
        var read = _forms.Read(name);
        var byText = _byForm.GetAlternateLookup<ReadOnlySpan<char>>();
        if (!byText.TryGetValue(read.Text, out var form))
        {
            var (text, count) = (read.Text.ToString(), read.Numbers.Length);
            form = Added(new TensorForm(text, count, StepsOf(NameForms.Fill(text, _forms.Samples.AsSpan(0, count)), count) ?? []), name);
            read = _forms.Read(name);
        }

        if (form.Steps.Count > 0)
        {
            return new FormOfName(form, read.Numbers);
        }

        // The rules put a number into a part of a name: each name is then a form of its own.
        var whole = NameForms.Whole(name);
        if (!_byForm.TryGetValue(whole, out form))
        {
            form = Added(new TensorForm(whole, 0, StepsOf(name, 0)!), name);
        }

        return new FormOfName(form, default);
    }

    private TensorForm Added(TensorForm form, string name)
    {
        _byForm.Add(form.Text, form);
        return _byForm.Count <= Limits.NameForms ? form : throw new MergeException(
            MergeError.InvalidModel,
            $"Names of tensors differ by more than numbers: {Limits.NameForms} kinds of them are read, and '{name}' is one more.", name,
            "Look at the names of the base's and the adapter's tensors: no model that transformers loads has so many.");
    }

    // The names of a tensor on its way, with a slot for each number; null if one of the samples that stand for numbers is not whole in
    // one.
    private List<NameStep>? StepsOf(string name, int numbers)
    {
        var samples = _forms.Samples.AsSpan(0, numbers).ToArray();
        var steps = new List<NameStep>();
        foreach (var (alias, origin) in Applied(name))
        {
            var read = _forms.Read(alias);
            var text = read.Text.ToString();
            if (Array.Exists(samples, n => text.Contains(n.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal)))
            {
                return null;
            }

            steps.Add(new NameStep(
                text, Array.ConvertAll(read.Numbers.ToArray(), Slot), origin.Conversion, origin.Source, origin.Target,
                origin.Number is { } number ? Slot(number) : null));
        }

        return steps;

        int Slot(int number) => Array.IndexOf(samples, number) is >= 0 and var place ? ~place : number;
    }

    /// <summary>The same by the rules themselves, applied one after the other.</summary>
    internal List<(string Alias, Origin Origin)> Applied(string name)
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

    private void Index(int place)
    {
        _places.TryAdd();
        var form = FormOf(NameAt(place)).Form;
        if (form.Places.Count == 0)
        {
            IndexForm(form);
        }

        form.Places.Add(place);
    }

    private void IndexForm(TensorForm form)
    {
        // Two steps may give one name.
        var done = new HashSet<(string, Origin)>();
        for (var i = 0; i < form.Steps.Count; i++)
        {
            var step = form.Steps[i];
            var alias = step.Alias(_forms.Samples);
            if (done.Add((alias, step.Origin("", _forms.Samples))))
            {
                _origins.Add(step.Form, form, i, "");
                IndexModule(form, i, alias);
            }
        }
    }

    // Modules are found by their names and a dot, behind which a number counts as one.
    private void IndexModule(TensorForm form, int index, string alias)
    {
        var step = form.Steps[index];
        var (module, parameter) = (KeyOf(alias.LastIndexOf('.')), alias[(alias.LastIndexOf('.') + 1)..]);
        if (step.Conversion is { } conversion)
        {
            if (conversion.StacksExperts)
            {
                _stacks.Add(module, form, index, parameter);
            }

            return;
        }

        _parameters.Add(module, form, index, parameter);
        if (ExpertPattern().Match(alias) is { Success: true } match)
        {
            var expert = int.Parse(match.Groups["expert"].ValueSpan, CultureInfo.InvariantCulture);
            var sample = Array.IndexOf(_forms.Samples, expert, 0, form.Numbers);
            _experts.Add(KeyOf(match.Groups["module"].Length), form, index,
                (sample >= 0 ? ~sample : expert, match.Groups["part"].Value));
        }

        string KeyOf(int length) => _forms.Read($"{alias[..Math.Max(length, 0)]}.").Text.ToString();
    }

    // The rules know the names of tensors: a module is looked up as if it had one without a name.
    private List<TTensor> Below<TDetail, TTensor>(
        string module, FormIndex<TDetail> index, Func<FoundStep<TDetail>, TTensor> tensorOf)
    {
        var way = Way(module + ".").Select(w => w.Alias).ToList();
        if (way.Select(Found).FirstOrDefault(o => o.Count > 0) is { } found)
        {
            return found;
        }

        var bare = way.SelectMany(index.Alike).Distinct().Select(n => (Name: n[..^1], Found: Found(n))).Where(n => n.Found.Count > 0)
            .ToList();
        return bare.Count == 0 ? []
            : bare.TrueForAll(b => b.Found.SequenceEqual(bare[0].Found)) ? bare[0].Found
            : throw Ambiguous(module, bare.Select(b => b.Name));

        List<TTensor> Found(string key) => [.. index.Find(key).Select(tensorOf)];
    }

    private bool IsPresent(Regex pattern, string prefix)
    {
        if (!_present.TryGetValue((pattern, prefix), out var present))
        {
            _present.Add((pattern, prefix),
                present = All.Any(n => n.StartsWith(prefix, StringComparison.Ordinal) && pattern.IsMatch(n[prefix.Length..])));
        }

        return present;
    }

    // A name without the containers that it begins with.
    private string Bare(string name)
    {
        var start = 0;
        for (int dot; (dot = name.IndexOf('.', start)) > 0
            && (IsContainer(name.AsSpan(start, dot - start)) || name.AsSpan(start, dot - start).SequenceEqual(_class.Prefix));
            start = dot + 1)
        {
        }

        return name[start..];
    }

    // Modules that hold a model and are missing, or one too many, where it was saved or adapted inside another.
    private static bool IsContainer(ReadOnlySpan<char> module) =>
        module is "model" or "language_model" or "text_model" or "thinker" or "transformer" or "backbone" or "vlm" or "module";

    private static MergeException Ambiguous(string name, IEnumerable<string> found) => new(
        MergeError.AdapterDoesNotFit,
        $"The adapter's '{name}' is ambiguous: the base has {string.Join(" and ", found.Order(StringComparer.Ordinal))}, and it could " +
            "mean either.",
        name,
        "Use the base that the adapter was trained on, saved once and not twice under two names.");

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

    private readonly ref struct FormOfName(TensorForm form, ReadOnlySpan<int> numbers)
    {
        public TensorForm Form { get; } = form;

        public ReadOnlySpan<int> Numbers { get; } = numbers;
    }
}
