using UnslothMerge.Adapters.Combining;
using UnslothMerge.Hub.Cache;
using UnslothMerge.Hub;

namespace UnslothMerge.Saving;

/// <summary>README.md of a saved model or adapter: what it was made of, and how.</summary>
internal static class ModelCard
{
    /// <summary>The name of the file.</summary>
    public const string FileName = CardText.FileName;

    // A licence's name and link belong to it: the first card that has one of these gives them all.
    private static readonly string[] License = ["license", "license_name", "license_link"];

    /// <summary>The card of a merged model. A card that is at the destination already is its author's: it is kept, and only what this merge
    /// makes untrue is changed. A new one takes over from the cards of base and adapters what holds for the merged model too.</summary>
    public static string Merged(WritePlan plan, string directory, string method, ExtrasOptions options, ICollection<MergeWarning> warnings)
    {
        var steps = plan.Merge.Steps;
        var card = CardText.ReadUnlessLost(directory) ?? CardText.New(Path.GetFileName(directory));
        var baseId = BaseId(plan.Merge);
        var isOfBase = baseId is null || card.Facts.Values("base_model").DefaultIfEmpty(baseId).First() == baseId;
        if (baseId is not null)
        {
            string[] models = [.. steps.Select(s => HubCache.NameOf(s.Adapter.Path)).OfType<string>().Prepend(baseId).Distinct()];
            card.Facts.Set("base_model", models);
            card.Facts.Set("base_model_relation",
                models.Length > 1 ? ["merge"] : steps.Length > 0 ? ["finetune"] : plan.Config.Quantization is null ? [] : ["quantized"]);
        }

        var @base = Facts(plan.Merge.Base.Path, warnings);
        FrontMatter[] adapters = [.. steps.Select(s => Facts(s.Adapter.Path, warnings)).OfType<FrontMatter>()];
        FrontMatter?[] baseFirst = [@base, .. adapters], adaptersFirst = [.. adapters, @base];
        Inherit(card.Facts, baseFirst, isOfBase, License);
        Inherit(card.Facts, [@base], isOfBase, "library_name");
        Inherit(card.Facts, baseFirst, isOfBase, "pipeline_tag");
        Inherit(card.Facts, adaptersFirst, isOfBase, "language");
        if (!card.Facts.Has("library_name"))
        {
            card.Facts.Set("library_name", "transformers");
        }

        card.Facts.Add("datasets", adapters.SelectMany(a => a.Values("datasets")).Concat(options.Datasets));
        var tags = adapters.SelectMany(a => a.Values("tags")).Where(HoldsForTheMerged);
        var kinds = steps.Length == 0 ? [] : steps.Select(KindTag).Prepend("merged");
        card.Facts.Add("tags", kinds.Concat(tags).Concat(options.Tags).Distinct());
        card.SetSection(Section(plan, baseId, method));
        return card.ToString();
    }

    /// <summary>The card of an adapter that is saved by itself: the one that is at the destination, else the adapter's own, with what the
    /// Hub needs to know.</summary>
    public static string Adapter(MergePlan plan, string directory, ExtrasOptions options, ICollection<MergeWarning> warnings)
    {
        var step = plan.Steps[0];
        var baseId = BaseId(plan);
        var card = CardText.ReadUnlessLost(directory) ?? CardText.Read(step.Adapter.Path)
            ?? CardText.New(Path.GetFileName(directory), $"A {step.Adapter.Config.PeftType} adapter for {baseId ?? plan.Base.Name}.");
        if (baseId is not null && !card.Facts.Values("base_model").Any(HubName.IsOne))
        {
            card.Facts.Set("base_model", baseId);
        }

        foreach (var (key, value) in new[] { ("base_model_relation", "adapter"), ("library_name", "peft") })
        {
            if (!card.Facts.Has(key))
            {
                card.Facts.Set(key, value);
            }
        }

        Inherit(card.Facts, [Facts(plan.Base.Path, warnings)], keep: true, License);
        card.Facts.Add("datasets", options.Datasets);
        card.Facts.Add("tags", options.Tags.Prepend(KindTag(step)));
        return card.ToString();
    }

    private static void Inherit(FrontMatter card, IEnumerable<FrontMatter?> sources, bool keep, params string[] keys)
    {
        if (!(keep && keys.Any(card.Has)) && sources.FirstOrDefault(s => s is not null && keys.Any(s.Has)) is { } source)
        {
            foreach (var key in keys)
            {
                card.Take(source, key);
            }
        }
    }

    private static FrontMatter? Facts(string directory, ICollection<MergeWarning> warnings)
    {
        try
        {
            return CardText.Read(directory)?.Facts;
        }
        catch (MergeException e)
        {
            warnings.Add(new MergeWarning(
                MergeWarningId.UnreadableCard, $"{e.Message} Licence, language and other keys are not copied from it."));
            return null;
        }
    }

    private static string Section(WritePlan plan, string? baseId, string method)
    {
        var (merge, tensors) = (plan.Merge, plan.Tensors.Select(t => t.Tensor).ToList());
        var text = new StringBuilder("## How it was made\n\n");
        var made = merge.Steps.Length switch
        {
            0 => "The weights of the base, stored anew.",
            1 => "The adapter is merged into the weights of the base: the model is used without PEFT.",
            var many => $"{many} adapters are merged into the weights of the base: the model is used without PEFT.",
        };
        text.Append(made).Append("\n\n");
        var stored = merge.Base.Config.Quantization?.String("quant_method") is { } quantization ? $", stored as {quantization}" : "";
        var commit = HubCache.CommitOf(merge.Base.Path) is { Length: > 0 } id ? $", commit {id}" : "";
        Line($"- Base: {baseId ?? merge.Base.Name} (`{merge.Base.Title}`{stored}{commit})");
        foreach (var step in merge.Steps)
        {
            var (adapter, config) = (step.Adapter, step.Adapter.Config);
            var rank = config.Rank is { } r ? $", rank {r}" : "";
            var trained = config.BaseModel is { } model && HubName.IsOne(model) && model != baseId ? $", trained on {model}" : "";
            Line($"- Adapter: {HubCache.NameOf(adapter.Path) ?? adapter.Name} ({config.PeftType}{rank}{trained}), weight {step.Weight}");
        }

        foreach (var rule in tensors.SelectMany(t => t.Terms).Select(t => t.Term).OfType<CombinedTerm>().Select(t => t.Description)
            .Distinct())
        {
            Line($"- Combined by {rule}");
        }

        foreach (var group in ByStrength(tensors, merge))
        {
            var names = string.Join(", ", group.Take(3).Select(t => $"`{t.Name}`")) + (group.Count() > 3 ? ", …" : "");
            Line($"- Strength {group.Key} on {Amount.Text(group.Count(), "tensor")}: {names}");
        }

        var changed = tensors.Count(t => t.IsChanged);
        var missing = merge.Tensors.Where(t => !t.IsCacheScale).Select(t => t.Name).Except(tensors.Select(t => t.Name)).Count();
        var version = typeof(ModelCard).Assembly.GetName().Version!.ToString(3);
        var rest = missing > 0 ? $"; {missing} tensors of the model were left out" : "";
        Line($"- Saved as {method} by UnslothMerge {version}: {changed} of {tensors.Count} tensors changed{rest}");
        return text.ToString();

        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
    }

    // The tensors whose strength the user set, the largest first. Grouping by numbers is compiled when it is first asked for, and mostly
    // there are none.
    private static IEnumerable<IGrouping<double, LogicalTensor>> ByStrength(List<LogicalTensor> tensors, MergePlan merge)
    {
        var set = tensors.Where(t => StrengthOf(t, merge) != 1).ToList();
        return set.Count == 0 ? [] : set.GroupBy(t => StrengthOf(t, merge)).OrderByDescending(g => g.Key);
    }

    // What the user set, apart from the adapter's weight; 1 where nothing was.
    private static double StrengthOf(LogicalTensor tensor, MergePlan merge)
    {
        if (merge.Tensors[tensor.Ordinal].IsChanged && !tensor.IsChanged)
        {
            return 0;
        }

        foreach (var term in tensor.Terms)
        {
            var steps = merge.Steps.Where(s => s.Adapter.Name == term.Adapter).ToList();
            var own = steps.Count > 0 ? steps[0].Weight : 1;
            if (own != term.Weight && own != 0 && steps.TrueForAll(s => s.Weight != term.Weight))
            {
                return Math.Round(term.Weight / own, 10);
            }
        }

        return 1;
    }

    // 'base_model:adapter:org/name' and the like say what a merged model is not.
    private static bool HoldsForTheMerged(string tag) =>
        tag is not ("adapter" or "peft") && !tag.StartsWith("base_model:", StringComparison.Ordinal);

    private static string KindTag(AdapterStep step) => step.Adapter.Config.PeftType.ToLowerInvariant();

    // The base's true name: that of its place in the Hub's cache; else what the adapters were trained on, unless that was a quantized copy
    // of this base; else what its own config says; else what the copy is a copy of, if the base's folder is called so.
    // The Hub refuses a base_model that is not a Hub id, so a local path is left out.
    private static string? BaseId(MergePlan plan)
    {
        var trained = plan.Steps.Select(s => s.Adapter.Config.BaseModel).ToList();
        var same = trained.Where(m => m is null || plan.Base.Config.Quantization is not null || !NamedBase.NamesQuantized(m));
        var original = trained.OfType<string>().Select(NamedBase.Unquantized)
            .Where(m => m.EndsWith("/" + plan.Base.Name, StringComparison.OrdinalIgnoreCase));
        return HubCache.NameOf(plan.Base.Path) ?? same.Append(plan.Base.Config.NameOrPath).Concat(original).FirstOrDefault(HubName.IsOne);
    }
}
