namespace UnslothMerge.Adapters;

/// <summary>A tensor that adapters may change: its name in the checkpoint, the shape that it will have, and its values before deltas are
/// added.</summary>
internal sealed record TargetTensor(string Name, IReadOnlyList<long> Shape, TensorSource Source);

/// <summary>A tensor that one expert has to itself. The part is the module within the expert: <c>gate_proj</c>.</summary>
internal sealed record ExpertTarget(int Expert, string Part, TargetTensor Tensor);

/// <summary>The parameters of the base, by module of the running model, and what is known of how they are stored. Nothing can be changed
/// through it.</summary>
internal sealed class BaseParameters(CheckpointNames names, Func<string, TargetTensor> tensor, ModelConfig config)
{
    /// <summary>The model types of the base and of the models inside it.</summary>
    public IReadOnlySet<string> ModelTypes { get; } = config.ModelTypes;

    /// <summary>How modules store their weights.</summary>
    public LayerTypes Layers { get; } = new(config);

    /// <summary>What the caller said of the orientation of square expert parameters.</summary>
    public MoeOrientation? MoeOrientation { get; init; }

    /// <summary>What the caller said of the arrangement of B of fused experts.</summary>
    public MoeLoraLayout? MoeLoraLayout { get; init; }

    /// <summary>True if a module may have <see cref="Experts"/> or <see cref="Stacks"/>.</summary>
    public bool HasExperts => names.HasExperts;

    /// <summary>Finds a parameter of a module; null if the base has none.</summary>
    public TargetTensor? Find(string module, string parameter) => names.Find($"{module}.{parameter}") is { } name ? tensor(name) : null;

    /// <summary>The parameters that a module has itself, by their name in the module.</summary>
    public IReadOnlyDictionary<string, TargetTensor> Of(string module) =>
        names.Parameters(module).ToDictionary(p => p.Parameter, p => tensor(p.Name));

    /// <summary>The tensors that a parameter is made from, or a part of, and how.</summary>
    public IReadOnlyList<(Origin Origin, TargetTensor Tensor)> Origins(string name) =>
        [.. names.Origins(name).Select(o => (o, tensor(o.Name)))];

    /// <summary>The tensors that a module's stacks of experts' matrices are made from, by the stack's name.</summary>
    public ILookup<string, (Origin Origin, TargetTensor Tensor)> Stacks(string module) =>
        names.Stacks(module).ToLookup(s => s.Parameter, s => (s.Origin, tensor(s.Origin.Name)));

    /// <summary>The names at run time of the parts that a tensor of the checkpoint is cut into.</summary>
    public IReadOnlyList<string> Parts(Origin origin) => names.Parts(origin);

    /// <summary>Where the rows of a parameter of the running model lie in the tensor that it is a part of; null if the config does not
    /// tell.</summary>
    public RowOrder? RowsOf(Origin origin, IReadOnlyList<long> sizes) =>
        RowOrder.Of(origin.Conversion!, names.Parts(origin), sizes, origin.Target, config);

    /// <summary>The outputs of query, key and value, as the config has them.</summary>
    public IReadOnlyList<long?> QueryKeyValue { get; } = config.QueryKeyValue;

    /// <summary>The tensors of a module's experts, where each expert has tensors of its own.</summary>
    public IReadOnlyList<ExpertTarget> Experts(string module) =>
        [.. names.Experts(module).Select(e => new ExpertTarget(e.Expert, e.Part, tensor(e.Name)))];
}
