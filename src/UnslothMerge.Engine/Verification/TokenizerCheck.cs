using UnslothMerge.Tokenizers;

namespace UnslothMerge.Verification;

/// <summary>Checks that the tokenizer is complete and fits configs and embedding. A problem that the base has too is reported, but is no
/// failure.</summary>
internal static class TokenizerCheck
{
    private const string Check = "Tokenizer";

    public static VerificationResult Run(MergePlan plan, OutputModel output, IEnumerable<string> carried)
    {
        var expected = carried.ToList();
        var missing = expected.Where(f => !File.Exists(Path.Combine(output.Path, f))).ToList();
        if (missing.Count > 0)
        {
            return new VerificationResult(Check, false, $"{string.Join(", ", missing)} {(missing.Count == 1 ? "is" : "are")} missing");
        }

        try
        {
            if (ModelTokenizer.Read(output.Path) is not { } tokenizer)
            {
                var files = expected.Count == 1 ? "file" : "files";
                return new VerificationResult(Check, true, $"none, as in the base; {expected.Count} other {files} carried over");
            }

            var problems = Problems(tokenizer, output.Path, output.Sources.Select(s => (s.Key, s.Value)));
            var baseProblems = ModelTokenizer.Read(plan.Base.Path) is { } baseTokenizer
                ? Problems(baseTokenizer, plan.Base.Path, StoredFormats.Read(plan.Base).Select(t => (t.Name, t.Source)))
                : [];
            var inherited = problems.Intersect(baseProblems).ToList();
            if (problems.Count > inherited.Count)
            {
                return new VerificationResult(Check, false, string.Join(" ", problems.Except(inherited)));
            }

            var trip = tokenizer.RoundTrip(rows: null);
            IEnumerable<string> found =
            [
                $"{tokenizer.Count} tokens{(inherited.Count == 0 ? End(tokenizer, output.Path) : "")}",
                .. trip.Passed == false ? [] : new[] { trip.Passed == true ? trip.Detail : $"round trip not checked: {trip.Detail}" },
                .. inherited.Select(i => $"as in the base: {i}"),
            ];
            return new VerificationResult(Check, true, string.Join("; ", found));
        }
        catch (MergeException e)
        {
            return new VerificationResult(Check, false, e.Message);
        }
    }

    private static IReadOnlyList<string> Problems(
        ModelTokenizer tokenizer, string directory, IEnumerable<(string Name, TensorSource Source)> tensors)
    {
        var embedding = tensors.FirstOrDefault(t => TensorNames.IsInputEmbedding(t.Name)).Source;
        return TokenIds.Problems(tokenizer, ConfigsOf(directory), embedding?.Shape is [var rows, _] ? rows : null);
    }

    private static string End(ModelTokenizer tokenizer, string directory)
    {
        var stated = ConfigsOf(directory).Where(c => TokenIds.Of(c.Value, "eos").Count > 0).Select(c => c.Key).ToList();
        return stated.Count > 0 && tokenizer.Special.FirstOrDefault(t => t.Role == "eos")?.Id is { } id
            ? $"; eos {id} agrees in {string.Join(", ", stated)} and tokenizer"
            : "";
    }

    private static Dictionary<string, JsonObject> ConfigsOf(string directory) =>
        new[] { TokenIds.ModelConfigName, TokenIds.GenerationConfigName }.Where(c => File.Exists(Path.Combine(directory, c)))
            .ToDictionary(c => c, c => JsonFile.Read(Path.Combine(directory, c), MergeError.InvalidModel));
}
