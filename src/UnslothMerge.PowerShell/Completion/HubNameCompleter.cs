using System.Collections;
using System.Management.Automation.Language;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers the models and adapters of the local Hugging Face cache, by the beginning or a part of their names.</summary>
internal sealed class HubNameCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var word = CompletionText.Unquote(wordToComplete);
        return HubCache.Entries().Where(e => e.Name.Contains(word, StringComparison.OrdinalIgnoreCase))
            .Select(e => CompletionText.Result(e.Name, DirectoryTip.Of(e.Snapshot)));
    }
}
