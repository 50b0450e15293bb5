using System.Globalization;
using System.Text;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Planning;

namespace UnslothMerge.Saving;

/// <summary>README.md of a saved model: what it was made of, and how.</summary>
public static class ModelCard
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "README.md";

    /// <summary>The card of a merged model.</summary>
    /// <param name="plan">What was merged.</param>
    /// <param name="name">The model's name.</param>
    /// <param name="method">The save method.</param>
    /// <param name="license">The base's licence id, if its card states one.</param>
    /// <param name="changed">The number of tensors that adapters changed.</param>
    public static string Merged(MergePlan plan, string name, string method, string? license, int changed)
    {
        var card = FrontMatter(BaseId(plan), "merge", license, ["merged", "lora"]);
        card.Append(CultureInfo.InvariantCulture, $"# {name}\n\n");
        card.Append(CultureInfo.InvariantCulture, $"`{plan.Base.Title}` with {(plan.Steps.Length == 0 ? "no adapter" : plan.Steps.Length == 1 ? "an adapter" : $"{plan.Steps.Length} adapters")} merged into its weights ({method}, {changed} tensors changed).\n\n");
        card.Append(CultureInfo.InvariantCulture, $"- Base: {BaseId(plan) ?? plan.Base.Name}\n");
        foreach (var step in plan.Steps)
        {
            card.Append(CultureInfo.InvariantCulture, $"- Adapter: {step.Adapter.Name} ({step.Adapter.Config.PeftType}, weight {step.Weight})\n");
        }

        foreach (var rule in plan.Tensors.SelectMany(t => t.Terms).Select(t => t.Term).OfType<CombinedTerm>().Select(t => t.Description).Distinct())
        {
            card.Append(CultureInfo.InvariantCulture, $"- Combined by {rule}\n");
        }

        return card.ToString();
    }

    /// <summary>The card of an adapter that is saved by itself.</summary>
    public static string Adapter(MergePlan plan, string name, string? license)
    {
        var card = FrontMatter(BaseId(plan), "adapter", license, ["lora"]);
        card.Append(CultureInfo.InvariantCulture, $"# {name}\n\nA {plan.Steps[0].Adapter.Config.PeftType} adapter for {BaseId(plan) ?? plan.Base.Name}.\n");
        return card.ToString();
    }

    /// <summary>The licence id in the front matter of a model's card, or null.</summary>
    public static string? LicenseOf(string directory)
    {
        var path = Path.Combine(directory, FileName);
        if (!File.Exists(path))
        {
            return null;
        }

        var lines = File.ReadLines(path).Take(200).ToList();
        return lines.Count > 0 && lines[0].Trim() == "---"
            ? lines.Skip(1).TakeWhile(l => l.Trim() != "---").Where(l => l.StartsWith("license:", StringComparison.Ordinal)).Select(l => l["license:".Length..].Trim()).FirstOrDefault(l => l.Length > 0)
            : null;
    }

    private static StringBuilder FrontMatter(string? baseModel, string relation, string? license, string[] tags)
    {
        var card = new StringBuilder("---\n");
        if (baseModel is not null)
        {
            card.Append(CultureInfo.InvariantCulture, $"base_model: {baseModel}\nbase_model_relation: {(relation == "merge" ? "finetune" : relation)}\n");
        }

        card.Append(relation == "adapter" ? "library_name: peft\n" : "library_name: transformers\n");
        if (license is not null)
        {
            card.Append(CultureInfo.InvariantCulture, $"license: {license}\n");
        }

        card.Append("tags:\n");
        foreach (var tag in tags)
        {
            card.Append(CultureInfo.InvariantCulture, $"- {tag}\n");
        }

        return card.Append("---\n\n");
    }

    // The Hub refuses a base_model that is not a Hub id, so a local path is left out.
    private static string? BaseId(MergePlan plan) =>
        plan.Steps.Select(s => s.Adapter.Config.BaseModel).Append(plan.Base.Config.NameOrPath).FirstOrDefault(IsHubId);

    private static bool IsHubId(string? name) =>
        name is not null && name.Split('/') is { Length: 2 } parts && parts.All(p => p.Length is > 0 and <= 96 && p[0] is not '.' && p.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'));
}
