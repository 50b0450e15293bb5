namespace UnslothMerge.Verification;

/// <summary>Summarizes the comparisons of all tensors.</summary>
internal static class NumberChecks
{
    private const string BelowResolution = "change less than half an ulp: they cannot be told from the base's";

    /// <summary>One result per action that occurs, and one each for changes below the resolution and for tensors that were not
    /// verified.</summary>
    public static IEnumerable<VerificationResult> Of(IReadOnlyList<TensorComparison> comparisons, bool full)
    {
        var verified = comparisons.Where(v => v.NotVerified is null).ToList();
        var merged = verified.Where(v => v.Tensor.Action == TensorAction.Merge || v.Tensor.Terms.Length > 0).ToList();
        var replaced = verified.Where(v => v.Tensor.Action is TensorAction.Replace or TensorAction.Add).Except(merged).ToList();
        var rest = verified.Except(merged).Except(replaced).ToList();
        var invisible = merged.Where(v => v.IsCorrect && !v.HasVisibleChange).ToList();
        var unverified = comparisons.Where(v => v.NotVerified is not null).ToList();
        var sampled = full ? "" : " (sampled)";
        return new[]
        {
            Sum("Untouched", [.. rest.Where(v => v.IsVerbatim)], ("equals", "equal"), $"the base byte for byte{sampled}"),
            Sum(
                "Converted",
                [.. rest.Where(v => !v.IsVerbatim)],
                ("holds", "hold"),
                $"the base's numbers, rounded once{Worst(rest)}{sampled}"),
            Sum("Replaced", replaced, ("holds", "hold"), $"what the adapter brings{sampled}"),
            Sum("Merged", merged, ("holds", "hold"), $"W' = {Formula(merged)} in float64{Worst(merged)}{sampled}"),
            Result("Resolution", true, invisible, $"{invisible.Count} of {Amount.Text(merged.Count, "tensor")} {BelowResolution}"),
            Result("NotVerified", null, unverified, $"{Amount.Text(unverified.Count, "tensor")}: {Reasons(unverified)}"),
        }.OfType<VerificationResult>();
    }

    private static VerificationResult? Sum(
        string check, List<TensorComparison> comparisons, (string Singular, string Plural) verb, string correct)
    {
        if (comparisons.Count == 0)
        {
            return null;
        }

        var wrong = comparisons.Where(v => !v.IsCorrect).ToList();
        var worst = comparisons.All(v => v.IsVerbatim) ? null : comparisons.MaxBy(v => v.WorstUlps);
        var tensors = Amount.Text(comparisons.Count, "tensor");
        var detail = wrong.Count == 0
            ? $"{tensors} {(comparisons.Count == 1 ? verb.Singular : verb.Plural)} {correct}"
            : $"{wrong.Count} of {tensors} {(wrong.Count == 1 ? "is" : "are")} wrong: {wrong[0].Tensor.Name}, {wrong[0].Diagnosis()}"
                + (wrong.Count > 1 ? "; …" : "");
        return new VerificationResult(check, wrong.Count == 0, detail)
        {
            Tensors = [.. wrong.Select(v => v.Tensor.Name)],
            WorstUlps = worst?.WorstUlps,
            WorstTensor = worst?.Tensor.Name,
        };
    }

    private static string Reasons(List<TensorComparison> unverified) => string.Join("; ", unverified.Select(v => v.NotVerified).Distinct());

    private static VerificationResult? Result(string check, bool? passed, List<TensorComparison> comparisons, string detail) =>
        comparisons.Count == 0
            ? null
            : new VerificationResult(check, passed, detail) { Tensors = [.. comparisons.Select(v => v.Tensor.Name)] };

    private static string Formula(List<TensorComparison> merged)
    {
        var kinds = merged.SelectMany(v => v.Tensor.Terms).Select(t => t.Term.Kind).Distinct().Order(StringComparer.Ordinal).ToList();
        return kinds.All(k => k == "LoRA") ? "W + s·BA" : string.Join(" or ", kinds);
    }

    private static string Worst(List<TensorComparison> comparisons) =>
        comparisons.Where(v => !v.IsVerbatim).Select(v => v.WorstUlps).DefaultIfEmpty().Max() is var ulps and > 0
            ? string.Create(CultureInfo.CurrentCulture, $", worst {ulps:F2} ulp")
            : "";
}
