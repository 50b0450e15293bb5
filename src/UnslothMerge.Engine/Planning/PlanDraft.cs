using System.Diagnostics.CodeAnalysis;
using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>A plan in the making: what the adapters placed so far have made of the base.</summary>
internal sealed class PlanDraft
{
    private TiedHead? _tiedHead;

    /// <summary>Begins where another merge ends; that of no adapters is the base.</summary>
    public PlanDraft(MergePlan start, PlanOptions? options)
    {
        Base = start.Base;
        Tensors = new TensorList(start.Tensors);
        Steps = [.. start.Steps];
        Targets = [.. start.Targets];
        Warnings = [.. start.Warnings];
        Config = start.Config;
        Earlier = start.Earlier;
        Options = (options ?? new PlanOptions()).Validated();
        FirstStep = Steps.Count;
        Index();
    }

    /// <summary>The base.</summary>
    public ModelDirectory Base { get; }

    /// <summary>The tensors, each at its ordinal.</summary>
    public TensorList Tensors { get; private set; }

    /// <summary>The tensors that adapters brought and the base has not, by name.</summary>
    public Dictionary<string, LogicalTensor> Added { get; } = new(StringComparer.Ordinal);

    /// <summary>The adapters, the one that is being placed included.</summary>
    public List<AdapterStep> Steps { get; }

    /// <summary>The merges that this one is on top of.</summary>
    public ImmutableArray<EarlierMerge> Earlier { get; }

    /// <summary>What became of the adapters' tensors.</summary>
    public List<AdapterTarget> Targets { get; }

    /// <summary>What the caller should know.</summary>
    public List<MergeWarning> Warnings { get; }

    /// <summary>The config that the merged model will have.</summary>
    public ModelConfig Config { get; set; }

    /// <summary>What else shapes the deltas.</summary>
    public PlanOptions Options { get; }

    /// <summary>The first step that this run adds; those before it come from the merge that it extends.</summary>
    public int FirstStep { get; }

    /// <summary>The names of the tensors.</summary>
    public CheckpointNames Names { get; private set; }

    /// <summary>The head of a new task that an adapter brought; null if none did.</summary>
    public TaskHead? TaskHead { get; set; }

    /// <summary>Repeats the layers of the base, if the adapter wants that. Names and ordinals are those of the deeper model from here
    /// on.</summary>
    public void Replicate(AdapterDirectory adapter)
    {
        if (LayerReplication.Of(adapter, Tensors) is not { } sources)
        {
            return;
        }

        if (Steps.Count > 1)
        {
            throw new MergeException(
                MergeError.UnsupportedAdapter,
                $"The adapter '{adapter.Path}' replicates layers, which only the first of several adapters can do.", adapter.Path,
                "Merge it first, and the others into the result.");
        }

        var deeper = LayerReplication.Apply(
            [.. Tensors.Where(t => _tiedHead is not { IsStored: false } head || t.Name != head.Name)], sources);
        Config = LayerReplication.Apply(Config, Tensors, sources);
        Tensors = new TensorList(deeper);
        Index();
    }

    /// <summary>Reports what became of a tensor of the last adapter that is not part of a delta.</summary>
    public void Report(StoredTensor tensor, string module, string kind, AdapterOutcome outcome, string? target) =>
        Targets.Add(new AdapterTarget(Steps[^1].Adapter.Name, module, kind, outcome, target, [tensor.Name]));

    /// <summary>Ends the plan, once all adapters are placed.</summary>
    public MergePlan Finish()
    {
        if (TaskHead is { } task)
        {
            // The new head takes the place of the old one, tied or not.
            var kept = task.Apply(Tensors, Names, Names.Class);
            foreach (var gone in Tensors.Where(t => t.IsChanged).ExceptBy(kept.Select(k => k.Ordinal), t => t.Ordinal))
            {
                Warnings.Add(new MergeWarning(
                    MergeWarningId.NotNeeded,
                    $"'{gone.Name}' is changed by {string.Join(", ", gone.Adapters)}, but the merged model is a {task.Class}, which does "
                    + "not have it: these changes are not needed."));
                var changes = Targets.FindAll(t => t.Tensor == gone.Name);
                Targets.RemoveAll(changes.Contains);
                Targets.AddRange(changes.Select(t => t with { Outcome = AdapterOutcome.NotNeeded, Tensor = null }));
            }

            var renamed = kept.ToDictionary(t => Tensors[t.Ordinal].Name, t => t.Name, StringComparer.Ordinal);
            var targets = Targets.ConvertAll(t =>
                t.Tensor is { } name && renamed.TryGetValue(name, out var now) ? t with { Tensor = now } : t);
            Targets.Clear();
            Targets.AddRange(targets);
            Tensors = new TensorList(kept);
            Config = task.Apply(Config);
        }
        else if (_tiedHead?.Resolve(Tensors, Options.KeepTied, Warnings) == true)
        {
            Config = Config.Untied();
        }
        else if (_tiedHead is null && Config.TiesWordEmbeddings && Tensors.FirstOrDefault(t => t.IsChanged && IsHead(t.Name)) is { } head)
        {
            Config = Config.Untied();
            Warnings.Add(new MergeWarning(
                MergeWarningId.Untied,
                $"'{head.Name}' is changed and is not the embedding, though config.json says so: tie_word_embeddings becomes false, so "
                + "that no reader takes the embedding instead."));
        }

        else if (_tiedHead is null && TiedHead.ChangedWithoutHead(Tensors, Config, Names) is { } embedding)
        {
            throw new MergeException(
                MergeError.AdapterDoesNotFit,
                $"'{embedding.Name}' is changed, and config.json of '{Base.Path}' ties it to the model's head (tie_word_embeddings), but "
                + $"the base stores no head, and {Base.Title} does not tell its name.",
                embedding.Name,
                "Put the model's class of transformers into architectures of its config.json; if it has no head, set tie_word_embeddings "
                + "to false there.");
        }

        FollowVocabulary();
        for (var ordinal = 0; ordinal < Tensors.Count; ordinal++)
        {
            if (Tensors[ordinal] is var tensor && tensor.Ordinal != ordinal)
            {
                Tensors[ordinal] = tensor with { Ordinal = ordinal };
            }
        }

        return new MergePlan(Base, [.. Steps], Tensors, [.. Targets], [.. Warnings], Config)
        {
            NameRules = Names.Rules,
            Earlier = Earlier,
        };
    }

    private bool IsHead(string name) => Names.Class.Tied.TryGetValue(Names.AtRunTime(name), out var source)
        ? Names.Find(source) is not null
        : TensorNames.IsOutputHead(name);

    // The tied head, if there is one, comes last, so that it can go again without moving another tensor.
    [MemberNotNull(nameof(Names))]
    private void Index()
    {
        Names = new CheckpointNames(MergePlan.NamesOf(new TensorList(Tensors)), Config);
        _tiedHead = TiedHead.Find(Tensors, Config, Names);
        if (_tiedHead is { IsStored: false })
        {
            Tensors.Add(_tiedHead.ToTensor(Tensors.Count));
            Names.Add(_tiedHead.Name);
        }
    }

    // An embedding that came back with more rows or fewer means another vocabulary; the head must follow.
    private void FollowVocabulary()
    {
        var embedding = Tensors.FirstOrDefault(t => TensorNames.IsInputEmbedding(t.Name) && t.Action == TensorAction.Replace);
        if (embedding is null || Base.Checkpoint.Find(embedding.Name)?.Shape[0] == embedding.Shape[0])
        {
            return;
        }

        var head = Tensors.FirstOrDefault(t => TensorNames.IsOutputHead(t.Name));
        if (head is not null && head.Shape[0] != embedding.Shape[0])
        {
            throw new MergeException(
                MergeError.AdapterDoesNotFit,
                $"The adapter '{Steps[^1].Adapter.Path}' resizes '{embedding.Name}' to {embedding.Shape[0]} rows, but '{head.Name}' has "
                + $"{head.Shape[0]}.",
                Steps[^1].Adapter.Path,
                "Save the adapter with both in modules_to_save.");
        }

        Config = Config.WithVocabulary(embedding.Shape[0]);
    }
}
