using System.Globalization;
using UnslothMerge.Planning;

namespace UnslothMerge.Verification;

/// <summary>Sums up what the comparison of every tensor has found.</summary>
internal static class NumberChecks
{
    /// <summary>One result for each thing that can happen to a tensor, as far as it does, and one for what could not be verified or does not show.</summary>
    public static IEnumerable<VerificationResult> Of(IReadOnlyList<TensorVerdict> verdicts, bool full)
    {
        var verified = verdicts.Where(v => v.NotVerified is null).ToList();
        var merged = verified.Where(v => v.Tensor.Action == TensorAction.Merge || v.Tensor.Terms.Length > 0).ToList();
        var replaced = verified.Where(v => v.Tensor.Action is TensorAction.Replace or TensorAction.Add).Except(merged).ToList();
        var rest = verified.Except(merged).Except(replaced).ToList();
        var sampled = full ? "" : " (sampled)";
        return new[]
        {
            Sum("Untouched", [.. rest.Where(v => v.IsVerbatim)], n => $"{n} the base byte for byte{sampled}", "equal", "equals"),
            Sum("Converted", [.. rest.Where(v => !v.IsVerbatim)], n => $"{n} the base's numbers, rounded once{Worst(rest)}{sampled}", "hold", "holds"),
            Sum("Replaced", replaced, n => $"{n} what the adapter brings{sampled}", "hold", "holds"),
            Sum("Merged", merged, n => $"{n} W' = {Formula(merged)} in float64{Worst(merged)}{sampled}", "hold", "holds"),
            Resolution(merged),
            NotVerified([.. verdicts.Where(v => v.NotVerified is not null)]),
        }.OfType<VerificationResult>();
    }

    private static VerificationResult? Sum(string check, List<TensorVerdict> verdicts, Func<string, string> good, string plural, string singular)
    {
        if (verdicts.Count == 0)
        {
            return null;
        }

        var wrong = verdicts.Where(v => !v.IsRight).ToList();
        var worst = verdicts.MaxBy(v => v.WorstUlps)!;
        var detail = wrong.Count == 0
            ? good($"{Amount.Text(verdicts.Count, "tensor")} {(verdicts.Count == 1 ? singular : plural)}")
            : $"{wrong.Count} of {Amount.Text(verdicts.Count, "tensor")} {(wrong.Count == 1 ? "is" : "are")} wrong: {wrong[0].Tensor.Name}, {wrong[0].Diagnosis()}{(wrong.Count > 1 ? "; …" : "")}";
        return new VerificationResult(check, wrong.Count == 0, detail)
        {
            Tensors = [.. wrong.Select(v => v.Tensor.Name)],
            WorstUlps = verdicts.All(v => v.IsVerbatim) ? null : worst.WorstUlps,
            WorstTensor = verdicts.All(v => v.IsVerbatim) ? null : worst.Tensor.Name,
        };
    }

    // A change that no element shows cannot be told from none.
    private static VerificationResult? Resolution(List<TensorVerdict> merged)
    {
        var still = merged.Where(v => v.IsRight && !v.Moves).ToList();
        return still.Count == 0 ? null : new VerificationResult("Resolution", true, $"{still.Count} of {Amount.Text(merged.Count, "tensor")} change less than half an ulp: they cannot be told from the base's")
        {
            Tensors = [.. still.Select(v => v.Tensor.Name)],
        };
    }

    private static VerificationResult? NotVerified(List<TensorVerdict> verdicts) => verdicts.Count == 0 ? null
        : new VerificationResult("NotVerified", null, $"{Amount.Text(verdicts.Count, "tensor")}: {string.Join("; ", verdicts.Select(v => v.NotVerified).Distinct())}") { Tensors = [.. verdicts.Select(v => v.Tensor.Name)] };

    private static string Formula(List<TensorVerdict> merged) => string.Join(" or ", merged.SelectMany(v => v.Tensor.Terms).Select(t => t.Term.Kind).Distinct().Order(StringComparer.Ordinal) is var kinds && kinds.All(k => k == "LoRA") ? ["W + s·BA"] : kinds);

    private static string Worst(List<TensorVerdict> verdicts) => verdicts.Where(v => !v.IsVerbatim).Select(v => v.WorstUlps).DefaultIfEmpty().Max() is var ulps and > 0
        ? string.Create(CultureInfo.CurrentCulture, $", worst {ulps:F2} ulp")
        : "";
}
