using UnslothMerge.Adapters;
using UnslothMerge.Verification.Placement;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>Compares the plan, and the class and ties of the saved model, with what <see cref="ExpectedModel"/> works out without a
/// plan.</summary>
internal sealed class PlacementChecks
{
    // Rows of a tensor that are compared to tell whether two are the same.
    private const int SampledRows = 64;

    private readonly MergePlan _plan;
    private readonly OutputModel _output;
    private readonly InputFiles _files;
    private readonly Dictionary<string, TensorSource> _base;
    private readonly HashSet<string> _planned;
    private readonly ILookup<(string File, string Name), string> _landings;
    private readonly Dictionary<(string File, string Name), AdapterOutcome> _outcomes;

    public PlacementChecks(MergePlan plan, OutputModel output, InputFiles files)
    {
        (_plan, _output, _files) = (plan, output, files);
        _base = StoredFormats.Read(plan.Base).ToDictionary(t => ExpectedModel.Unwrapped(t.Name), t => t.Source, StringComparer.Ordinal);
        _planned = [.. plan.Tensors.Select(t => t.Name)];
        _landings = plan.Tensors.SelectMany(t => t.Terms.SelectMany(w => w.Term.Inputs)
            .Concat(t.Action is TensorAction.Replace or TensorAction.Add ? t.Source.Inputs : [])
            .Select(i => (Key: (i.File.Path, i.Name), t.Name))).ToLookup(l => l.Key, l => l.Name);
        _outcomes = plan.Targets.SelectMany(t => plan.Steps.Where(s => s.Adapter.Name == t.Adapter).SelectMany(s => s.Adapter.Tensors)
            .Where(i => t.Inputs.Contains(i.Name)).Select(i => (Key: (i.File.Path, i.Name), t.Outcome))).DistinctBy(o => o.Key)
            .ToDictionary(o => o.Key, o => o.Outcome);
        Expected = new ExpectedModel(
            plan.Base.Config.ToJson(),
            _base.Select(t => (t.Key, t.Value.Shape)),
            [.. plan.Steps.DistinctBy(s => s.Adapter.Path).Select(Given)]);
    }

    /// <summary>What the model must be.</summary>
    public ExpectedModel Expected { get; }

    private GivenAdapter Given(AdapterStep step)
    {
        var adapter = AdapterDirectory.Open(step.Adapter.Path).For(_plan.Base);
        return new GivenAdapter(adapter.Weights.Path, adapter.Config.Json, [.. adapter.Tensors], new ExpertChoices(
            step.Options.MoeLoraLayout is { } layout ? layout == MoeLoraLayout.Grouped : null,
            step.Options.MoeOrientation is { } orientation ? orientation == MoeOrientation.InLast : null));
    }

    public IEnumerable<VerificationResult> Run() => [Adapters(), Architecture()];

    // Every tensor in the header of an adapter must lie where the expected model has its place.
    private VerificationResult Adapters()
    {
        var (problems, found, unknown) = (new List<string>(), new List<string>(), 0);
        foreach (var adapter in _plan.Steps.Select(s => s.Adapter).DistinctBy(a => a.Path))
        {
            var file = Expected.Files[adapter.Weights.Path];
            foreach (var part in file.Parts)
            {
                var (problem, known) = Compare(adapter.Weights.Path, file, part);
                problems.AddRange(problem is null ? [] : [$"{part.Tensor.Name} of '{adapter.Name}' {problem}"]);
                unknown += known ? 0 : 1;
            }

            var shared = adapter.Tensors.Where(t => AdapterFile.IsShared(t.Name)).ToList();
            problems.AddRange(shared.Where(t => !IsUsed(t)).Select(t => $"{t.Name} of '{adapter.Name}' is in no tensor"));
            var pairs = file.Parts.Count(p => p.Part == "lora_A");
            var modules = pairs > 0 ? $" (LoRA on {Amount.Text(pairs, "module")})" : "";
            found.Add($"{Amount.Text(file.Parts.Count + shared.Count, "tensor")} of '{adapter.Name}'{modules}");
        }

        var trusted = unknown > 0 ? $"; of {Amount.Text(unknown, "tensor")} only the plan says where" : "";
        return StructureChecks.Result(
            "Adapter", problems, found is [] ? "none: the base, converted" : $"all {string.Join(", ", found)} found their place{trusted}");
    }

    private (string? Problem, bool IsKnown) Compare(string path, AdapterFile file, AdapterPart part)
    {
        var actual = _landings[(part.Tensor.File.Path, part.Tensor.Name)].ToHashSet();
        if (Expected.TensorsOf(path, part) is not { } tensors)
        {
            return Expected.Added.Count > 0 && part.Part is "weight" or "bias"
                ? (actual.Overlaps(Expected.Added) ? null : "is not in the new head", true)
                : IsUsed(part.Tensor) ? (null, false) : ("is in no tensor", true);
        }

        // Trained rows of the embedding are the head's too, unless it has rows of its own.
        var isTokens = IsTokens(part);
        var mirrored = isTokens && Expected.Head is { } head && tensors.Contains(Expected.Embedding!) && _planned.Contains(head)
            && !file.Parts.Any(p => p != part && p.Part == part.Part && Expected.TensorsOf(path, p)?.Contains(head) == true);
        var wanted = tensors.Concat(mirrored ? [Expected.Head!] : []).Select(Landing).OfType<string>().ToHashSet();
        var outcome = OutcomeOf(part);
        if (actual.Count == 0)
        {
            // Whether a head may stay its embedding says the architecture.
            var staysTied = tensors.All(t => t == Expected.Head) && !_planned.Contains(Expected.Head!);
            return (wanted.Count == 0 || staysTied || outcome == AdapterOutcome.NotNeeded ? null
                : outcome == AdapterOutcome.BaseCopy && IsCopy(tensors.First(), part.Tensor) ? null
                : $"is in no tensor, but belongs to {List(wanted)}", true);
        }

        // Of other kinds only the module is known: its weight, its bias, or both.
        var isExact = LoraPlaces.LoraParts.Contains(part.Part) || part.Part is "weight" or "bias" || isTokens;
        var isRight = isExact ? actual.SetEquals(wanted) : actual.IsSubsetOf(wanted);
        return (isRight ? null : $"is in {List(actual)}, but belongs to {List(wanted)}", true);
    }

    private static bool IsTokens(AdapterPart part) => part.Part.StartsWith("trainable_tokens_delta", StringComparison.Ordinal);

    private AdapterOutcome? OutcomeOf(AdapterPart part) =>
        _outcomes.TryGetValue((part.Tensor.File.Path, part.Tensor.Name), out var outcome) ? outcome : null;

    private static string List(HashSet<string> names) =>
        names.Count == 0 ? "no tensor"
            : string.Join(" and ", names.Order(StringComparer.Ordinal).Take(3)) + (names.Count > 3 ? " and more" : "");

    private bool IsUsed(StoredTensor tensor) =>
        _landings.Contains((tensor.File.Path, tensor.Name)) || _outcomes.ContainsKey((tensor.File.Path, tensor.Name));

    // Where a tensor of the base is in the result: a head that stays tied is its embedding.
    private string? Landing(string tensor) =>
        tensor == Expected.Head && !_planned.Contains(tensor) ? Expected.Embedding : Expected.NameOf(tensor);

    private VerificationResult Architecture()
    {
        var problems = new List<string>();
        var untied = MustUntie();
        var names = Expected.Stored.Select(Expected.NameOf).OfType<string>().Concat(Expected.Added)
            .Concat(untied && Expected.TaskClass is null ? [Expected.Head!] : []).ToHashSet();
        var copies = Expected.Head is null ? [] : Expected.Tied.Keys.Where(k => k != Expected.Head);
        problems.AddRange(names.Except(_planned).Select(n => $"{n} is lost"));
        problems.AddRange(_planned.Except(names).Except(copies).Except(FromBeside()).Select(n => $"nothing asks for {n}"));
        if (_output.Config?.ToJson() is not { } config)
        {
            return StructureChecks.Result("Architecture", problems, "");
        }

        var (stated, before) = (config.Strings("architectures"), _plan.Base.Config.Architectures);
        if (!stated.SequenceEqual(Expected.TaskClass is { } task ? [task] : before))
        {
            problems.Add($"architectures is {string.Join(", ", stated)} instead of {Expected.TaskClass ?? string.Join(", ", before)}");
        }

        if (Expected.Added.LastOrDefault(n => _output.Sources.ContainsKey(n)) is { } last)
        {
            var labels = _output.Sources[last].Shape[0];
            var said = new[] { ("num_labels", config.Number("num_labels")), ("id2label", (config["id2label"] as JsonObject)?.Count) };
            problems.AddRange(said.Where(l => l.Item2 is { } count && count != labels)
                .Select(l => $"{l.Item1} has {l.Item2} labels, but the head {labels} rows"));
        }

        problems.AddRange(TieProblems(config, untied));
        var head = Expected.Head is null || Expected.TaskClass is not null ? ""
            : $", its head {(untied ? "not " : "")}tied to the embedding";
        return StructureChecks.Result("Architecture", problems, $"{(stated.Count > 0 ? stated[0] : "no class is named")}{head}");
    }

    // What an adapter's folder holds beside its weights may be more than the base has: MTP layers.
    private IEnumerable<string> FromBeside()
    {
        var files = _plan.Steps.SelectMany(s => s.Adapter.Tensors.Select(t => t.File.Path).Where(f => f != s.Adapter.Weights.Path))
            .ToHashSet();
        return _plan.Tensors.Where(t => t.Action == TensorAction.Add && files.Contains(t.Source.Inputs[0].File.Path)).Select(t => t.Name);
    }

    // Readers differ in which level of a config they believe: what is untied is so at each of them.
    private IEnumerable<string> TieProblems(JsonObject config, bool untied)
    {
        if (Expected.Head is null || Expected.TaskClass is not null)
        {
            yield break;
        }

        // Some classes tie more than the head, and may keep the flag beside a stored head.
        var tiesMore = Expected.Tied.Keys.Count(k => k.EndsWith(".weight", StringComparison.Ordinal)) > 1;
        var levels = ExpectedModel.Levels(config).Select(l => l.Bool("tie_word_embeddings")).ToList();
        if (untied && !levels.TrueForAll(l => l == false) && !(tiesMore && levels.TrueForAll(l => l != false)))
        {
            yield return $"{Expected.Head} is not {Expected.Embedding}, but tie_word_embeddings is "
                + $"{string.Join(" and in the text config ", levels.Select(l => l is null ? "absent" : l.Value ? "true" : "false"))}";
        }

        if (!untied && !ExpectedModel.IsTied(config))
        {
            yield return $"{Expected.Head} is {Expected.Embedding}, but tie_word_embeddings is false";
        }
    }

    // True if the adapters make a tied head another matrix than its embedding.
    private bool MustUntie()
    {
        if (Expected.Head is not { } head || Expected.Embedding is not { } embedding || _plan.Steps.Any(s => s.Options.KeepTied))
        {
            return false;
        }

        var (ofEmbedding, ofHead) = (PartsOf(embedding), PartsOf(head));
        return Expected.Stored.Contains(head) && !IsCopy(embedding, _base[head].Verbatim)
            ? ofHead.Count > 0 : !AreSame(ofEmbedding, ofHead);
    }

    private List<(string File, AdapterPart Part)> PartsOf(string tensor) =>
        [.. Expected.Files.SelectMany(f => f.Value.Parts
            .Where(p => OutcomeOf(p) is not (AdapterOutcome.BaseCopy or AdapterOutcome.NotNeeded)
                && Expected.TensorsOf(f.Key, p)?.Contains(tensor) == true).Select(p => (f.Key, p)))];

    // Each has what the other has, seen from the other side: A of an embedding is B of a head. Rows of tokens that only the embedding has
    // are the head's too.
    private bool AreSame(List<(string File, AdapterPart Part)> embedding, List<(string File, AdapterPart Part)> head)
    {
        bool IsMirrored((string File, AdapterPart Part) part) =>
            IsTokens(part.Part) && !head.Exists(h => h.File == part.File && h.Part.Part == part.Part.Part);
        var own = embedding.FindAll(p => !IsMirrored(p));
        return own.Count == head.Count && own.TrueForAll(e => head.Exists(h => h.File == e.File && AreSame(e.Part.Tensor, h.Part.Tensor)));
    }

    private bool AreSame(StoredTensor a, StoredTensor b)
    {
        var (x, y) = (PlainValues.ReadAll(_files, a), PlainValues.ReadAll(_files, b));
        return (a.Shape.SequenceEqual(b.Shape) && x.AsSpan().SequenceEqual(y))
            || (a.Shape.Count == 2 && a.Shape.SequenceEqual(b.Shape.Reverse())
                && x.Index().All(v => v.Item == y[(v.Index % a.Shape[1] * a.Shape[0]) + (v.Index / a.Shape[1])]));
    }

    // True if a tensor holds a tensor of the base, rounded to its own dtype, as far as rows from everywhere tell.
    private bool IsCopy(string tensor, StoredTensor? saved)
    {
        var name = tensor == Expected.Head && !_base.ContainsKey(tensor) ? Expected.Embedding! : tensor;
        if (saved is null || !_base.TryGetValue(name, out var source) || !source.Shape.SequenceEqual(saved.Shape))
        {
            return false;
        }

        var view = MatrixView.Of(saved.Shape);
        var rows = Enumerable.Range(0, SampledRows).Select(i => i * (view.Rows - 1) / (SampledRows - 1)).Distinct().ToArray();
        var (mine, its) = (new double[rows.Length * view.Columns], new double[rows.Length * view.Columns]);
        using var reader = new RowReader(_files, source, view);
        reader.Read(rows, mine);
        using var other = new RowReader(_files, new PlainSource(saved), view);
        other.Read(rows, its);
        return mine.Zip(its).All(p => PlainValues.Round(saved.Type, p.First) == p.Second || double.IsNaN(p.First));
    }
}
