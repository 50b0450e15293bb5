namespace UnslothMerge.Adapters;

/// <summary>A kind of adapter: which tensors it stores for a module, and what they change. A kind is one file in <c>Adapters/Kinds</c> and
/// one row in <see cref="AdapterKinds"/>. The parts are the tensors of one module without its name: <c>lora_A.weight</c> …; shared parts
/// those of all modules without <c>base_model.</c>: <c>vera_A</c> …, whose names may go on after a dot.</summary>
internal abstract class AdapterKind(string name, string peftType, IReadOnlyList<string> parts, IReadOnlyList<string>? sharedParts = null)
{
    /// <summary>The kind's usual name: LoRA …</summary>
    public string Name => name;

    /// <summary>The <c>peft_type</c> of the adapters that store it.</summary>
    public string PeftType => peftType;

    /// <summary>The tensors of one module, without the module's name.</summary>
    public IReadOnlyList<string> Parts => parts;

    /// <summary>The tensors that all modules share.</summary>
    public IReadOnlyList<string> SharedParts { get; } = sharedParts ?? [];

    /// <summary>True if a module may have these parts several times, one wrapper around the other (see
    /// <see cref="AdaptedModule.Levels"/>).</summary>
    public virtual bool Nests => false;

    /// <summary>Finds what the tensors of one module change. Null if the base has no parameter of that module that this kind could change:
    /// then the next row of the table is asked.</summary>
    public ModuleChanges? Bind(AdaptedModule module)
    {
        try
        {
            return module.Levels.SelectMany(l => l.Values).FirstOrDefault(t => t.Shape.Count == 0) is { } scalar
                ? throw new MisfitException($"'{scalar.Name}' is a single number, without dimensions", scalar)
                : Changes(module);
        }
        catch (MisfitException misfit)
        {
            return new ModuleChanges { Misfit = misfit };
        }
    }

    /// <inheritdoc cref="Bind"/>
    protected abstract ModuleChanges? Changes(AdaptedModule module);
}

/// <summary>A kind of adapter that changes a module's <c>weight</c>, and perhaps its <c>bias</c>.</summary>
internal abstract class WeightKind(
    string name, string peftType, IReadOnlyList<string> parts,
    IReadOnlyList<string>? sharedParts = null) : AdapterKind(name, peftType, parts, sharedParts)
{
    protected sealed override ModuleChanges? Changes(AdaptedModule module) =>
        module.FindParameter("weight") is not { } weight ? null
        : weight.Shape.Count > 0 && !weight.Shape.Contains(0) && weight.Shape.Count() / weight.Shape[0] <= int.MaxValue
            ? Changes(module, weight)
        : throw new MisfitException($"the weight {weight.Name} {weight.Shape.Text()} is no matrix");

    /// <summary>Finds what the tensors of one module change.</summary>
    protected abstract ModuleChanges? Changes(AdaptedModule module, TargetTensor weight);
}
