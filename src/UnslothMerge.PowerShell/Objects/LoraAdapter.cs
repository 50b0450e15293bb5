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
        Targets = plan is null
            ? [.. names.GroupBy(n => n.Module).Select(g => new LoraTarget(g.Key, g.Select(n => n.Name)))]
            : [.. plan.Targets.Select(t => new LoraTarget(t))];
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

    /// <summary>The size of the weights in bytes.</summary>
    public long Bytes { get; }

    /// <summary>The model that it was trained on.</summary>
    public string? BaseModel { get; }

    /// <summary>The full path.</summary>
    public string Path { get; }

    /// <summary>The modules; with a base, the tensors that they change.</summary>
#pragma warning disable CA1819 // arrays are what PowerShell users index, filter and export
    public LoraTarget[] Targets { get; }
#pragma warning restore CA1819

    public override string ToString() => Path;
}

/// <summary>What an adapter changes in one module.</summary>
public sealed class LoraTarget
{
    internal LoraTarget(string module, IEnumerable<string> inputs)
    {
        Module = module;
        Inputs = string.Join(", ", inputs);
    }

    internal LoraTarget(AdapterTarget target)
    {
        Module = target.Module;
        Kind = target.Kind;
        Rank = target.Rank;
        Scaling = target.Scaling;
        Outcome = target.Outcome.ToString();
        Tensor = target.Tensor;
        Inputs = string.Join(", ", target.Inputs);
    }

    /// <summary>The name of the module in the loaded model.</summary>
    public string Module { get; }

    /// <summary>The kind of change; null without a base.</summary>
    public string? Kind { get; }

    /// <summary>The rank; null for kinds without a rank.</summary>
    public int? Rank { get; }

    /// <summary>The factor of the delta; null for kinds without one.</summary>
    public double? Scaling { get; }

    /// <summary>The outcome: Merged, Replaced …; null without a base.</summary>
    public string? Outcome { get; }

    /// <summary>The tensor of the base that it changes; null without a base.</summary>
    public string? Tensor { get; }

    /// <summary>The tensors of the adapter, separated by commas.</summary>
    public string Inputs { get; }

    public override string ToString() => Module;
}
