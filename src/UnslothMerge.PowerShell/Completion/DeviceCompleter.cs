using System.Collections;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Completes -Device.</summary>
public sealed class DeviceCompleter : ValueCompleter
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) =>
    [
        ("auto", "Whatever is faster for the work at hand"),
        ("cpu", "The processor's cores; the same bytes on every machine"),
        ("cuda", "The first NVIDIA GPU; cuda:1 is the second"),
    ];
}
