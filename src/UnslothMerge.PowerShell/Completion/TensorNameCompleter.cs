using System.Collections;
using System.Management.Automation.Language;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers the names of a model's tensors, and a pattern for each of its modules.</summary>
internal sealed class TensorNameCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var given = fakeBoundParameters["LiteralPath"] ?? fakeBoundParameters["Path"];
        var path = given is object[] several ? several.FirstOrDefault() : given;
        if (path is null || CompletionText.ModelPath($"{path}") is not { } directory)
        {
            return [];
        }

        List<string> names;
        try
        {
            names = [.. Formats.StoredFormats.Read(ModelDirectory.Open(directory)).Select(t => t.Name)];
        }
        catch (MergeException)
        {
            // The command itself will say what is wrong with the model.
            return [];
        }

        var word = CompletionText.Unquote(wordToComplete);
        var pattern = new WildcardPattern(
            WildcardPattern.ContainsWildcardCharacters(word) ? word + '*' : $"*{word}*", WildcardOptions.IgnoreCase);
        var modules = names.Where(n => TensorNames.Layer(n) is not null).Select(TensorNames.Module).Distinct(StringComparer.Ordinal);
        return modules.Where(pattern.IsMatch).Select(m => CompletionText.Result($"*.{m}.*", $"{m} of every layer"))
            .Concat(names.Where(pattern.IsMatch).Select(n => CompletionText.Result(n, n)));
    }
}
