using System.Collections;
using System.Management.Automation.Language;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Completes -Device.</summary>
public sealed class DeviceCompleter : IArgumentCompleter
{
    private static readonly (string Name, string Tip)[] Devices =
    [
        ("auto", "Whatever is faster for the work at hand"),
        ("cpu", "The processor's cores; the same bytes on every machine"),
        ("cuda", "The first NVIDIA GPU; cuda:1 is the second"),
    ];

    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        Devices.Where(d => d.Name.StartsWith(wordToComplete, StringComparison.OrdinalIgnoreCase))
            .Select(d => new CompletionResult(d.Name, d.Name, CompletionResultType.ParameterValue, d.Tip));
}
