using UnslothMerge.Adapters;

namespace UnslothMerge.PowerShell;

/// <summary>What an adapter changes in one module.</summary>
public sealed class LoraTarget
{
    private LoraTarget(string module, IEnumerable<string> inputs) => (Module, Inputs) = (module, [.. inputs]);

    /// <summary>The name of the module in the loaded model.</summary>
    public string Module { get; }

    /// <summary>The tensor of the base that it changes; null without a base, or if it changes none.</summary>
    public string? Tensor { get; private init; }

    /// <summary>The tensor, or the module where there is no tensor.</summary>
    public string Target => Tensor ?? Module;

    /// <summary>The kind of change.</summary>
    public string? Kind { get; private init; }

    /// <summary>The rank; null for kinds without a rank.</summary>
    public int? Rank { get; private init; }

    /// <summary>The factor of the delta; null for kinds without one.</summary>
    public double? Scaling { get; private init; }

    /// <summary>The outcome: Merged, Replaced …; null without a base.</summary>
    public string? Outcome { get; private init; }

    /// <summary>The tensors of the adapter.</summary>
    public string[] Inputs { get; }

    /// <summary>True if it changes a tensor.</summary>
    internal bool Changes => Outcome is not (null or nameof(AdapterOutcome.BaseCopy) or nameof(AdapterOutcome.NotNeeded));

    /// <summary>What its group in the table is called.</summary>
    internal string Heading { get; private set; } = "";

    /// <summary>The modules of an adapter, by its files alone.</summary>
    internal static LoraTarget[] Of(AdapterDirectory adapter)
    {
        var modules = adapter.Tensors.Select(t => (Tensor: t, Name: AdapterNames.Parse(t.Name))).GroupBy(t => t.Name.Module);
        LoraTarget[] targets = [.. modules.Select(m => Of(adapter.Config, m.Key, [.. m]))];
        Array.ForEach(targets, t => t.Heading =
            $"{Amount.Text(targets.Length, "module")} of {adapter.Name}. With -Base: the tensors that they change.");
        return targets;
    }

    /// <summary>What becomes of the modules in a base; those that change nothing come last.</summary>
    internal static LoraTarget[] Of(MergePlan plan)
    {
        var groups = plan.Targets.Select(Of).ToLookup(t => t.Changes);
        var (changing, idle) = (groups[true].ToArray(), groups[false].ToArray());
        var tensors = changing.Select(t => t.Tensor).Distinct().Count();
        Array.ForEach(changing, t => t.Heading =
            $"{Amount.Text(changing.Length, "module")} of {plan.Targets[0].Adapter} change {tensors} of {plan.Tensors.Count} tensors:");
        Array.ForEach(idle, t => t.Heading = $"{Amount.Text(idle.Length, "module")} {(idle.Length == 1 ? "changes" : "change")} nothing:");
        return [.. changing, .. idle];
    }

    public override string ToString() => Module;

    private static LoraTarget Of(AdapterTarget target) => new(target.Module, target.Inputs)
    {
        Tensor = target.Tensor,
        Kind = target.Kind,
        Rank = target.Rank,
        Scaling = target.Scaling,
        Outcome = target.Outcome.ToString(),
    };

    private static LoraTarget Of(AdapterConfig config, string module, List<(StoredTensor Tensor, AdapterName Name)> tensors)
    {
        var kind = AdapterKinds.Table.FirstOrDefault(
            k => k.PeftType == config.PeftType && k.Parts.Any(p => tensors.Exists(t => t.Name.Part == p)));

        // The rank is that of the tensors; the config's is the one that most modules have.
        var factor = tensors.Find(t => t.Name.Part is "lora_A.weight" or "lora_embedding_A").Tensor;
        var rank = kind is null ? null : (int?)factor?.Shape[0] ?? config.RankOf(module);
        return new LoraTarget(module, tensors.Select(t => t.Tensor.Name))
        {
            Kind = kind?.Name ?? SavedModules.Kind,
            Rank = rank,
            Scaling = rank is not > 0 ? null
                : config.PeftType == "LORA" && config.Alpha is not null ? config.ScalingOf(module, rank.Value)
                : config.PeftType == "LOHA" ? config.ValueOf(module, "alpha", "alpha_pattern") / rank
                : null,
        };
    }
}
