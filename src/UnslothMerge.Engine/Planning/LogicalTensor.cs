using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>What happens to a tensor.</summary>
internal enum TensorAction
{
    /// <summary>The base's bytes are copied.</summary>
    Copy,

    /// <summary>A quantized tensor is decoded.</summary>
    Decode,

    /// <summary>Deltas are added.</summary>
    Merge,

    /// <summary>An adapter brings the whole tensor.</summary>
    Replace,

    /// <summary>The base does not have it.</summary>
    Add,
}

/// <summary>A delta with its own scaling, the name of its adapter or of the rule that combines several, and the caller's factor.</summary>
internal sealed record WeightedTerm(DeltaTerm Term, string Adapter, double Weight);

/// <summary>A tensor of the merged model: where it comes from and what is done to it. Immutable; no values are read yet.</summary>
internal sealed record LogicalTensor
{
    /// <summary>Its place in the plan.</summary>
    public required int Ordinal { get; init; }

    /// <summary>Its plain name.</summary>
    public required string Name { get; init; }

    /// <summary>Where its values come from before deltas are added.</summary>
    public required TensorSource Source { get; init; }

    /// <summary>The dtype that it has in the base, or would have.</summary>
    public required TensorType Type { get; init; }

    /// <summary>What happens to it.</summary>
    public required TensorAction Action { get; init; }

    /// <summary>The file that its source lies in.</summary>
    public string SourceShard => (Source.Verbatim ?? Source.Inputs[0]).File.Name;

    /// <summary>The deltas to add.</summary>
    internal ImmutableArray<WeightedTerm> Terms
    {
        get => Changed.Terms;
        init => Changed = Changed with { Terms = value };
    }

    /// <summary>The adapters that change it.</summary>
    public ImmutableArray<string> Adapters
    {
        get => Changed.Adapters;
        init => Changed = Changed with { Adapters = value };
    }

    /// <summary>The tensor that an adapter replaced.</summary>
    public LogicalTensor? Replaced
    {
        get => Changed.Replaced;
        init => Changed = Changed with { Replaced = value };
    }

    // What most tensors of a large base do not have: they share one of nothing.
    private Change Changed { get; init; } = Change.None;

    /// <summary>The tensor as it was without adapters; null if the model has it, or its shape, from an adapter.</summary>
    private LogicalTensor? Unchanged => Action switch
    {
        TensorAction.Merge => this with
        {
            Action = Source.Verbatim is null ? TensorAction.Decode : TensorAction.Copy, Terms = [], Adapters = [], SpecialView = null,
        },
        _ => Replaced is { } replaced && replaced.Shape.SequenceEqual(Shape) ? replaced : null,
    };

    /// <summary>True for a scale of a quantized base's key-value cache: only a model that keeps the base's quantization has it.</summary>
    public bool IsCacheScale { get; init; }

    /// <summary>The shape.</summary>
    public IReadOnlyList<long> Shape => Source.Shape;

    /// <summary>The matrix that tiles are cut from, where the deltas need another one than the usual.</summary>
    public MatrixView? SpecialView
    {
        get => Changed.View;
        init => Changed = Changed with { View = value };
    }

    /// <summary>The matrix that tiles are cut from.</summary>
    public MatrixView View => SpecialView ?? MatrixView.Of(Shape);

    /// <summary>True if an adapter changes it.</summary>
    public bool IsChanged => Action is TensorAction.Merge or TensorAction.Replace or TensorAction.Add;

    /// <summary>True if its change can be multiplied by a factor.</summary>
    public bool IsAdditive => Action is not (TensorAction.Replace or TensorAction.Add) && Terms.All(t => t.Term.IsAdditive);

    /// <summary>The factor that the caller put on what the last merge adds to it.</summary>
    public double Strength
    {
        get => Changed.Strength;
        init => Changed = Changed with { Strength = value };
    }

    /// <summary>The largest rank among its deltas.</summary>
    public int? Rank => Terms.Max(t => t.Term.Rank);

    /// <summary>The adapters that change it once this one does.</summary>
    internal ImmutableArray<string> AdaptersWith(AdapterStep step) =>
        Adapters.Contains(step.Name) ? Adapters : Adapters.Add(step.Name);

    /// <summary>The same tensor with a factor on everything that adapters add to it.</summary>
    public LogicalTensor WithStrength(double strength)
    {
        if (strength == 1 || !IsChanged)
        {
            return this;
        }

        if (strength == 0 && Unchanged is { } unchanged)
        {
            return unchanged with { Strength = 0 };
        }

        return !double.IsFinite(strength) ? throw new MergeException(
            MergeError.InvalidOption, $"The strength of '{Name}' is {strength}; it must be a finite number.", Name)
            : !IsAdditive ? throw new MergeException(
                MergeError.InvalidOption,
                $"The strength of '{Name}' is {strength}, but the change of its adapters is a "
                + $"{(Action == TensorAction.Merge ? Terms.First(t => !t.Term.IsAdditive).Term.Kind : "replacement")}, which cannot "
                + "be weighted.",
                Name,
                "Leave its Strength at 1, or set it to 0 to leave the change out.")
            : this with { Terms = [.. Terms.Select(t => t with { Weight = t.Weight * strength })], Strength = strength };
    }

    private sealed record Change(
        ImmutableArray<WeightedTerm> Terms, ImmutableArray<string> Adapters, LogicalTensor? Replaced, MatrixView? View, double Strength)
    {
        public static Change None { get; } = new([], [], null, null, 1);
    }
}
