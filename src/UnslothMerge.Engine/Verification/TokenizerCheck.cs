using System.Text.Json.Nodes;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.Saving;
using UnslothMerge.Tokenizers;

namespace UnslothMerge.Verification;

/// <summary>Is the tokenizer there, and does it fit configs and embedding? What was wrong in the base already is told, and no failure of the merge.</summary>
internal static class TokenizerCheck
{
    private const string Check = "Tokenizer";

    private static readonly string[] Configs = [TokenIds.ModelConfigName, TokenIds.GenerationConfigName];

    public static VerificationResult Run(MergePlan plan, OutputModel output, string? given)
    {
        var expected = CarriedFiles.ForModel(plan.Base.Path, [.. plan.Steps.Select(s => s.Adapter.Path)], given);
        var missing = expected.Keys.Where(f => !File.Exists(Path.Combine(output.Path, f))).ToList();
        if (missing.Count > 0)
        {
            return new VerificationResult(Check, false, $"{string.Join(", ", missing)} {(missing.Count == 1 ? "is" : "are")} missing");
        }

        try
        {
            var tokenizer = ModelTokenizer.Read(output.Path);
            if (tokenizer is null)
            {
                return new VerificationResult(Check, true, $"none, as in the base; {expected.Count} other {(expected.Count == 1 ? "file" : "files")} carried over");
            }

            var rows = output.Sources.Where(s => TensorNames.IsInputEmbedding(s.Key)).Select(s => Rows(s.Value.Shape)).FirstOrDefault();
            var baseRows = StoredFormats.Read(plan.Base).Where(t => TensorNames.IsInputEmbedding(t.Name)).Select(t => Rows(t.Source.Shape)).FirstOrDefault();
            var problems = Problems(tokenizer, output.Path, rows);
            var inherited = ModelTokenizer.Read(plan.Base.Path) is { } theirs ? problems.Intersect(Problems(theirs, plan.Base.Path, baseRows)).ToList() : [];
            return problems.Count > inherited.Count
                ? new VerificationResult(Check, false, string.Join(" ", problems.Except(inherited)))
                : new VerificationResult(Check, true, string.Join("; ", inherited.Select(i => $"as in the base: {i}").Prepend($"{tokenizer.Count} tokens{(inherited.Count == 0 ? End(tokenizer, output.Path) : "")}")));
        }
        catch (MergeException e)
        {
            return new VerificationResult(Check, false, e.Message);
        }
    }

    private static long? Rows(IReadOnlyList<long> shape) => shape.Count == 2 ? shape[0] : null;

    private static IReadOnlyList<string> Problems(ModelTokenizer tokenizer, string directory, long? rows) => TokenIds.Problems(tokenizer, ConfigsOf(directory), rows);

    private static string End(ModelTokenizer tokenizer, string directory)
    {
        var stated = ConfigsOf(directory).Where(c => TokenIds.Of(c.Value, "eos").Count > 0).Select(c => c.Key).ToList();
        return stated.Count > 0 && tokenizer.Special.FirstOrDefault(t => t.Role == "eos")?.Id is { } id ? $"; eos {id} agrees in {string.Join(", ", stated)} and tokenizer" : "";
    }

    private static Dictionary<string, JsonObject> ConfigsOf(string directory) =>
        Configs.Where(c => File.Exists(Path.Combine(directory, c))).ToDictionary(c => c, c => JsonFile.Read(Path.Combine(directory, c), MergeError.InvalidModel));
}
