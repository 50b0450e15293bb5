using System.Collections;
using System.Management.Automation.Language;
using System.Xml.Linq;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers the values of an enum, with what their comments say of them. The comments lie beside the assembly.</summary>
public sealed class EnumCompleter<T> : IArgumentCompleter
    where T : struct, Enum
{
    private static readonly Lazy<IReadOnlyDictionary<string, string>> Tips = new(Read);

    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var word = CompletionText.Unquote(wordToComplete);
        return Enum.GetNames<T>().Where(n => n.StartsWith(word, StringComparison.OrdinalIgnoreCase))
            .Select(n => CompletionText.Result(n, Tips.Value.GetValueOrDefault(n, n)));
    }

    private static IReadOnlyDictionary<string, string> Read()
    {
        var path = Path.ChangeExtension(typeof(T).Assembly.Location, ".xml");
        var prefix = $"F:{typeof(T).FullName}.";
        return !File.Exists(path) ? new Dictionary<string, string>()
            : XDocument.Load(path).Descendants("member")
                .Where(m => m.Attribute("name")?.Value.StartsWith(prefix, StringComparison.Ordinal) == true)
                .ToDictionary(m => m.Attribute("name")!.Value[prefix.Length..], m => Words(m.Element("summary")!.Value));
    }

    private static string Words(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
}
