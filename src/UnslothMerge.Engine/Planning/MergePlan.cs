using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>An adapter and the factor that the caller puts before everything it adds.</summary>
internal sealed record AdapterStep(AdapterDirectory Adapter, double Weight)
{
    /// <summary>What else shapes its deltas; a plan sets it.</summary>
    public PlanOptions Options { get; init; } = new();

    /// <summary>The adapter's name, with as much of its path as tells it from others of a plan; a plan sets it.</summary>
    public string Name { get; init; } = Adapter.Name;

    /// <summary>The step with a name that no other adapter has.</summary>
    public AdapterStep NamedUnlike(IReadOnlyCollection<AdapterStep> others)
    {
        var parts = Adapter.Path.Split(Path.DirectorySeparatorChar, Path.AltDirectorySeparatorChar);
        var name = Adapter.Name;
        for (var count = 2; count <= parts.Length && others.Any(o => o.Name == name && o.Adapter.Path != Adapter.Path); count++)
        {
            name = string.Join('/', parts[^count..]);
        }

        return this with { Name = name };
    }
}

/// <summary>A merge that another one was put on top of: the number of its adapters, and what its caller made of their deltas.</summary>
internal sealed record EarlierMerge(int Adapters, IReadOnlyList<StrengthRule> Strength);

/// <summary>What became of an adapter tensor.</summary>
internal enum AdapterOutcome
{
    /// <summary>It is part of a delta.</summary>
    Merged,

    /// <summary>It takes the place of a base tensor.</summary>
    Replaced,

    /// <summary>The base does not have the tensor that it brings.</summary>
    Added,

    /// <summary>It holds what the base holds, and changes nothing.</summary>
    BaseCopy,

    /// <summary>The merged model does not need it.</summary>
    NotNeeded,
}

/// <summary>Where one module of an adapter goes. The kind is that of the adapter or <c>SavedModule</c>; the tensor, which it changes or
/// copies, is null if there is none.</summary>
internal sealed record AdapterTarget(
    string Adapter, string Module, string Kind, AdapterOutcome Outcome, string? Tensor, ImmutableArray<string> Inputs)
{
    /// <summary>The rank, where it has one.</summary>
    public int? Rank { get; init; }

    /// <summary>The factor that the adapter puts before its delta, where it has one.</summary>
    public double? Scaling { get; init; }
}

/// <summary>
/// What a merge will do, tensor by tensor. Immutable; it holds handles and no values (for those that planning reads see
/// <see cref="MergePlanner"/>). <see cref="WritePlan"/> adds how the result is stored.
/// </summary>
internal sealed class MergePlan
{
    internal MergePlan(
        ModelDirectory @base, ImmutableArray<AdapterStep> steps, IReadOnlyList<LogicalTensor> tensors,
        ImmutableArray<AdapterTarget> targets, ImmutableArray<MergeWarning> warnings, ModelConfig config)
    {
        Base = @base;
        Steps = steps;
        Tensors = tensors;
        Targets = targets;
        Warnings = warnings;
        Config = config;
    }

    /// <summary>The base model.</summary>
    public ModelDirectory Base { get; }

    /// <summary>The adapters in the order in which they were given.</summary>
    public ImmutableArray<AdapterStep> Steps { get; }

    /// <summary>The merges that the last one is on top of; the adapters beyond theirs are its own.</summary>
    public ImmutableArray<EarlierMerge> Earlier { get; init; } = [];

    /// <summary>The files that tensors are read from.</summary>
    public IEnumerable<StoredFile> InputFiles =>
        Base.Checkpoint.Tensors.Concat(Steps.SelectMany(s => s.Adapter.Weights.Tensors)).Select(t => t.File).Distinct();

    /// <summary>The tensors of the merged model.</summary>
    public IReadOnlyList<LogicalTensor> Tensors { get; }

    /// <summary>Where each module of each adapter lands.</summary>
    public ImmutableArray<AdapterTarget> Targets { get; }

    /// <summary>What the caller should know.</summary>
    public ImmutableArray<MergeWarning> Warnings { get; }

    /// <summary>Where the rules come from that adapters' names were found by; empty before any was sought.</summary>
    public string NameRules { get; init; } = "";

    /// <summary>The names of tensors, each made when it is asked for.</summary>
    public static IReadOnlyList<string> NamesOf(IReadOnlyList<LogicalTensor> tensors) =>
        new MappedList<LogicalTensor, string>(tensors, (tensor, _) => tensor.Name);

    /// <summary>The merged model's config, before it is known how the tensors are stored.</summary>
    public ModelConfig Config { get; }
}
