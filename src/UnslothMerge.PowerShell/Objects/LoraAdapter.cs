using UnslothMerge.Adapters;

namespace UnslothMerge.PowerShell;

/// <summary>An adapter.</summary>
public sealed class LoraAdapter
{
    internal LoraAdapter(AdapterDirectory adapter, MergePlan? plan)
    {
        Name = adapter.Name;
        Path = adapter.Path;
        Kind = adapter.Config.PeftType;
        Rank = adapter.Config.Rank;
        Alpha = adapter.Config.Alpha;
        Scaling = Rank is { } rank && Alpha is { } alpha ? alpha / (adapter.Config.UseRsLora ? Math.Sqrt(rank) : rank) : null;
        BaseModel = adapter.Config.BaseModel;
        Bytes = new FileInfo(adapter.Weights.Path).Length;
        var names = adapter.Tensors.Select(t => (t.Name, Module: AdapterNames.Parse(t.Name).Module)).ToList();
        Tensors = names.Count;
        Modules = names.Select(n => n.Module).Distinct(StringComparer.Ordinal).Count();
        Targets = plan is null ? LoraTarget.Of(adapter) : LoraTarget.Of(plan);
        Changed = plan?.Tensors.Count(t => t.IsChanged);
        Unchanged = plan is null ? null : Targets.Count(t => !t.Changes);
    }

    /// <summary>The name of the directory.</summary>
    public string Name { get; }

    /// <summary>The kind of adapter: LORA …</summary>
    public string Kind { get; }

    /// <summary>The rank of modules that no pattern matches.</summary>
    public int? Rank { get; }

    /// <summary>The alpha of modules that no pattern matches.</summary>
    public double? Alpha { get; }

    /// <summary>alpha / r, or alpha / √r with rsLoRA, of modules that no pattern matches.</summary>
    public double? Scaling { get; }

    /// <summary>The number of modules with tensors.</summary>
    public int Modules { get; }

    /// <summary>The number of tensors.</summary>
    public int Tensors { get; }

    /// <summary>With a base: the number of its tensors that change.</summary>
    public int? Changed { get; }

    /// <summary>With a base: the number of modules that change nothing.</summary>
    public int? Unchanged { get; }

    /// <summary>The size of the weights in bytes.</summary>
    public long Bytes { get; }

    /// <summary>The model that it was trained on.</summary>
    public string? BaseModel { get; }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The modules; with a base, the tensors that they change.</summary>
    public LoraTarget[] Targets { get; }

    public override string ToString() => Path;
}
