namespace UnslothMerge.Verification.Placement;

/// <summary>An adapter as the expected model sees it.</summary>
/// <param name="Path">Its file of weights.</param>
/// <param name="Config">adapter_config.json.</param>
/// <param name="Tensors">Its tensors.</param>
/// <param name="Choices">What the caller said of it.</param>
internal sealed record GivenAdapter(string Path, JsonObject Config, IReadOnlyList<StoredTensor> Tensors, ExpertChoices Choices);

/// <summary>What a model must be that base and adapters make: its tensors, its class and its ties, and where each part of an adapter lies.
/// Worked out from their files alone, without a plan.</summary>
internal sealed partial class ExpectedModel
{
    private static readonly Dictionary<string, (string Task, string Ending)> Tasks = new(StringComparer.Ordinal)
    {
        ["SEQ_CLS"] = ("sequence", "ForSequenceClassification"),
        ["TOKEN_CLS"] = ("token", "ForTokenClassification"),
        ["QUESTION_ANS"] = ("question", "ForQuestionAnswering"),
    };

    private static readonly string[] TextConfigs = ["text_config", "llm_config", "language_config"];

    private static readonly string[] LayerParameters = ["weight", "bias"];

    private readonly Dictionary<string, LoraPlaces> _lora = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Path, string Module), IReadOnlyList<LoraPiece>?> _pieces = [];
    private readonly JsonObject? _task;

    /// <summary>Works it out.</summary>
    /// <param name="config">The base's config.json.</param>
    /// <param name="shapes">The shapes of the base's tensors, decoded and <see cref="Unwrapped"/>.</param>
    /// <param name="adapters">The adapters, in order.</param>
    public ExpectedModel(
        JsonObject config, IEnumerable<(string Name, IReadOnlyList<long> Shape)> shapes, IReadOnlyList<GivenAdapter> adapters)
    {
        var tensors = shapes.ToDictionary(s => s.Name, s => s.Shape, StringComparer.Ordinal);
        tensors = Replicated(tensors, adapters.Select(a => a.Config["layer_replication"]).OfType<JsonArray>().FirstOrDefault() ?? []);
        Stored = tensors.Keys.ToHashSet(StringComparer.Ordinal);
        Model = new RunningModel(config, tensors);
        FindTie(tensors);
        if (Head is not null && tensors.TryAdd(Head, Embedding is null ? [] : tensors[Embedding]))
        {
            Model = new RunningModel(config, tensors);
        }

        foreach (var adapter in adapters)
        {
            var file = new AdapterFile(adapter.Config, adapter.Tensors, Model);
            Files.TryAdd(adapter.Path, file);
            _lora.TryAdd(adapter.Path, new LoraPlaces(Model, file, adapter.Choices));
        }

        var head = Files.Values.Where(f => Tasks.ContainsKey(f.Config.String("task_type") ?? ""))
            .SelectMany(f => f.Parts.Where(p => p.Part is "weight" or "bias" && Find(f, p) is null)
                .Select(p => (Task: Tasks[f.Config.String("task_type")!], Part: p))).ToList();
        if (head.Count > 0)
        {
            var old = Model.ClassName ?? "";
            TaskClass = (string?)TransformersData.Find("auto", head[0].Task.Task)?[config.String("model_type") ?? ""]
                ?? LanguageModel().Replace(old, head[0].Task.Ending);
            _task = TransformersData.Find("classes", TaskClass) as JsonObject ?? [];
            var names = _task.Strings("head");
            Added = [.. head.Select(h => $"{h.Part.Module}.{h.Part.Part}")
                .Select(n => names.FirstOrDefault(h => n == h || n.EndsWith($".{h}", StringComparison.Ordinal)) ?? n)];
        }
    }

    /// <summary>The running model, the tied head among its parameters.</summary>
    public RunningModel Model { get; }

    /// <summary>The adapters by their files.</summary>
    public Dictionary<string, AdapterFile> Files { get; } = new(StringComparer.Ordinal);

    /// <summary>The tensors of the base, layers repeated.</summary>
    public IReadOnlySet<string> Stored { get; }

    /// <summary>The embedding that the head is tied to by the config; null if none is.</summary>
    public string? Embedding { get; private set; }

    /// <summary>The tied head, stored or not; null if there is none.</summary>
    public string? Head { get; private set; }

    /// <summary>The tensors that the class ties, each with the one that it shares.</summary>
    public IReadOnlyDictionary<string, string> Tied =>
        (Model.Class?["tied"] as JsonObject ?? []).ToDictionary(p => p.Key, p => (string)p.Value!, StringComparer.Ordinal);

    /// <summary>The class that an adapter's new head makes of the model; null if none brings one.</summary>
    public string? TaskClass { get; }

    /// <summary>The tensors of the new head.</summary>
    public IReadOnlyList<string> Added { get; } = [];

    /// <summary>A name without what trainers wrap around modules.</summary>
    public static string Unwrapped(string name) => Wrapper().Replace(name, "");

    /// <summary>The name that a tensor of the base has in the result; null if the result's class does not have it.</summary>
    public string? NameOf(string tensor)
    {
        if (_task is null)
        {
            return tensor;
        }

        var name = Model.AtRunTime(tensor);
        if (_task.Strings("head").Contains(name))
        {
            return tensor;
        }

        var (from, to, body) = ($"{Model.Class?.String("prefix")}.", $"{_task.String("prefix")}.", _task.Strings("body"));
        var isHead = Model.Class is null ? UsualHead().IsMatch(name) : Model.Class.Strings("head").Contains(name);
        bool IsBody(string part) => body.Contains(part.Split('.')[0]);
        return isHead ? null
            : body.Count == 0 ? (UsualHead().IsMatch(name) ? null : tensor)
            : name.StartsWith(to, StringComparison.Ordinal) && IsBody(name[to.Length..]) ? tensor
            : IsBody(name) ? to + tensor
            : name.StartsWith(from, StringComparison.Ordinal) && IsBody(name[from.Length..])
                ? (tensor.StartsWith(from, StringComparison.Ordinal) ? to + tensor[from.Length..] : tensor)
            : null;
    }

    /// <summary>Where a module's LoRA lies; null if these rules do not know it.</summary>
    public IReadOnlyList<LoraPiece>? Pieces(string path, string module)
    {
        lock (_pieces)
        {
            if (!_pieces.TryGetValue((path, module), out var pieces))
            {
                Model.View = Files[path].View;
                _pieces[(path, module)] = pieces = _lora[path].Of(module);
            }

            return pieces;
        }
    }

    /// <summary>The pieces of a LoRA that lie in one tensor of the result; null if these rules do not know them.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="factor">One of the LoRA's factors.</param>
    public IReadOnlyList<LoraPiece>? PiecesIn(string tensor, StoredTensor factor) =>
        Pieces(factor.File.Path, Files[factor.File.Path].ModuleOf[factor.Name])?
            .Where(p => NameOf(p.Tensor) == tensor || (p.Tensor == Head && tensor == Embedding)).ToList() is { Count: > 0 } mine
            ? mine : null;

    /// <summary>The tensors that a part of an adapter changes; null if these rules do not know them.</summary>
    public IReadOnlySet<string>? TensorsOf(string path, AdapterPart part)
    {
        if (LoraPlaces.LoraParts.Contains(part.Part))
        {
            return Pieces(path, part.Module)?.Where(p => p.Left.Tensor == part.Tensor || p.Right.Tensor == part.Tensor)
                .Select(p => p.Tensor).ToHashSet();
        }

        if (Find(Files[path], part) is { } saved)
        {
            return saved.Tensors.ToHashSet();
        }

        var changed = LayerParameters.Select(p => Model.Find($"{part.Module}.{p}")).OfType<Parameter>().SelectMany(p => p.Tensors);
        return changed.ToHashSet() is { Count: > 0 } set ? set : null;
    }

    /// <summary>True if a config ties head and embedding: readers differ in which level they believe.</summary>
    public static bool IsTied(JsonObject config)
    {
        var said = Levels(config).Select(l => l.Bool("tie_word_embeddings")).OfType<bool>().ToList();
        return said.Count > 0 ? said.Contains(true) : TransformersData.Find("tie_default", config.String("model_type") ?? "") switch
        {
            JsonArray both => both.Any(b => (bool)b!),
            JsonValue one => (bool)one,
            _ => true,
        };
    }

    /// <summary>A config and that of its language model.</summary>
    public static IEnumerable<JsonObject> Levels(JsonObject config) => TextConfigs
        .Select(k => config[k] ?? (config["thinker_config"] as JsonObject)?[k]).OfType<JsonObject>().Take(1).Prepend(config);

    private Parameter? Find(AdapterFile file, AdapterPart part)
    {
        Model.View = file.View;
        return Model.Find(part.Module.Length > 0 ? $"{part.Module}.{part.Part}" : part.Part);
    }

    private void FindTie(Dictionary<string, IReadOnlyList<long>> tensors)
    {
        if (!IsTied(Model.Config))
        {
            return;
        }

        string? Tensor(string name) => Model.Find(name) is { IsTensor: true, Blocks: [var first, ..] } ? first.Tensor : null;
        if (Model.Class is { } known)
        {
            var (tied, heads) = (Tied, known.Strings("head"));
            var head = tied.Keys.FirstOrDefault(k => k.EndsWith(".weight", StringComparison.Ordinal) && heads.Contains(k));
            if (head is not null)
            {
                Embedding = tied.Where(p => p.Value == tied[head] && p.Key != head).Select(p => p.Key).Prepend(tied[head]).Select(Tensor)
                    .FirstOrDefault(t => t is not null);
                Head = Embedding is null ? null : Tensor(head) ?? new[] { $"language_model.{head}", "embed_out.weight", head }
                    .First(h => h == head || (Model.AtRunTime(h) == head
                        && (h[0] == 'e' || Embedding.StartsWith("language_model.", StringComparison.Ordinal))));
            }

            return;
        }

        var stored = tensors.Keys.Where(k => UsualHead().IsMatch(k)).ToList();
        if (stored.Count <= 1 && Regex.IsMatch(Model.ClassName ?? "", "(ForCausalLM|LMHeadModel|ForConditionalGeneration)$"))
        {
            Embedding = tensors.Keys.Where(k => UsualEmbedding().IsMatch(k) && !Tower().IsMatch(k)).MinBy(k => k.Length);
            var below = Embedding?.StartsWith("language_model.", StringComparison.Ordinal) == true ? "language_model." : "";
            Head = Embedding is null ? null : stored.FirstOrDefault() ?? $"{below}lm_head.weight";
        }
    }

    // The layers that an adapter stacks into a deeper model, ranges of the base's.
    private static Dictionary<string, IReadOnlyList<long>> Replicated(Dictionary<string, IReadOnlyList<long>> tensors, JsonArray ranges)
    {
        var sources = ranges.SelectMany(r => Enumerable.Range((int)r![0]!, (int)r[1]! - (int)r[0]!)).ToList();
        return sources.Count == 0 ? tensors : tensors.SelectMany(t =>
            Tower().IsMatch(t.Key) || Layer().Match(t.Key) is not { Success: true } match ? [t]
            : sources.Index().Where(s => s.Item == int.Parse(match.ValueSpan, CultureInfo.InvariantCulture)).Select(s =>
                KeyValuePair.Create($"{t.Key[..match.Index]}{s.Index}{t.Key[(match.Index + match.Length)..]}", t.Value)))
            .ToDictionary(t => t.Key, t => t.Value, StringComparer.Ordinal);
    }

    [GeneratedRegex(@"(?<=^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(module\.)+", RegexOptions.ExplicitCapture)]
    private static partial Regex Wrapper();

    [GeneratedRegex("(ForCausalLM|LMHeadModel)$")]
    private static partial Regex LanguageModel();

    [GeneratedRegex(@"(^|\.)(lm_head|embed_out)\.weight$")]
    private static partial Regex UsualHead();

    [GeneratedRegex(@"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|shared|tok_embeddings|embeddings)\.weight$")]
    private static partial Regex UsualEmbedding();

    [GeneratedRegex(@"(?<=(^|\.)(layers|layer|h|blocks|block)\.)\d+(?=\.)")]
    private static partial Regex Layer();

    [GeneratedRegex(@"(^|\.)(visual|vision\w*|image_\w+|video_tower|vit|audio\w*|speech_encoder|\w*projector|\w*connector)(\.|$)")]
    private static partial Regex Tower();
}
