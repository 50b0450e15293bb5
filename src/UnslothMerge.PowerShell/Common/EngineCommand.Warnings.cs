namespace UnslothMerge.PowerShell.Common;

/// <content>Warnings, and what a plan has to say.</content>
public abstract partial class EngineCommand
{
    /// <summary>Shows a warning with its id; in a loop once. It is never held back from a caller who collects warnings or stops at
    /// them. The key tells warnings apart that say the same of several models; the text by default.</summary>
    private protected void Warn(MergeWarning warning, string? key = null)
    {
        var bound = MyInvocation.BoundParameters;
        var isWatched = bound.ContainsKey("WarningVariable") || bound.ContainsKey("WarningAction")
            || $"{GetVariableValue("WarningPreference")}".Equals(nameof(ActionPreference.Stop), StringComparison.OrdinalIgnoreCase);
        if (ShownWarnings.IsNew(MyInvocation.HistoryId, key ?? warning.Text) || isWatched)
        {
            WriteWarning(warning.ToString());
        }
        else
        {
            WriteVerbose(warning.ToString());
        }
    }

    /// <summary>Says what a plan found: warnings, but for those that earlier commands of the pipeline have shown, and for -Verbose what
    /// base and adapters are.</summary>
    private protected void Report(MergePlan plan, int shown = 0)
    {
        foreach (var warning in plan.Warnings.Skip(shown))
        {
            Warn(warning);
        }

        foreach (var named in plan.Steps.Select(s => NamedBase.Compare(plan.Base, s.Adapter)).Where(n => n is { NeedsWarning: false }))
        {
            WriteVerbose(named!.Text);
        }

        WriteVerbose(
            $"Base '{plan.Base.Path}' ({plan.Base.Title}), {Amount.Text(plan.Tensors.Count, "tensor")}, "
            + (plan.Steps.Length == 0 ? "without an adapter: a plain conversion."
                : $"{plan.Tensors.Count(t => t.IsChanged)} of them changed by {Amount.Text(plan.Steps.Length, "adapter")}."));
        WriteVerbose($"Names: {plan.NameRules}.");
    }
}
