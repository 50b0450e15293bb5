namespace UnslothMerge.Adapters;

/// <summary>
/// A kind of adapter: which tensors it stores for a module, and what they change. A kind is one file in <c>Adapters/Kinds</c> and one row in
/// <see cref="AdapterKinds"/>.
/// </summary>
public abstract class AdapterKind
{
    /// <summary>The kind's usual name: LoRA …</summary>
    public abstract string Name { get; }

    /// <summary>The <c>peft_type</c> of the adapters that store it.</summary>
    public abstract string PeftType { get; }

    /// <summary>The tensors of one module, without the module's name: <c>lora_A.weight</c> …</summary>
    public abstract IReadOnlyList<string> Parts { get; }

    /// <summary>The tensors that all modules share, without <c>base_model.</c>: <c>vera_A</c> …; their names may go on after a dot.</summary>
    public virtual IReadOnlyList<string> SharedParts => [];

    /// <summary>True if a module may have these parts several times, one wrapper around the other (see <see cref="ModuleAdapter.Levels"/>).</summary>
    public virtual bool Nests => false;

    /// <summary>Says what the tensors of one module change.</summary>
    /// <returns>False if the base has no parameter of that module that this kind could change; then the next row of the table is asked.</returns>
    public abstract bool Bind(ModuleAdapter module, IAdapterTarget target);
}
