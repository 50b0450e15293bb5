using System.Collections;
using System.ComponentModel;
using System.Reflection;

namespace UnslothMerge.PowerShell.Completion;

/// <summary>Offers the values of an enum, with their descriptions.</summary>
internal sealed class ChoiceCompleter<T> : ValueCompleter
    where T : struct, Enum
{
    private protected override IEnumerable<(string Text, string Tip)> Values(IDictionary parameters) => Enum.GetNames<T>()
        .Select(n => (n, typeof(T).GetField(n)!.GetCustomAttribute<DescriptionAttribute>()!.Description));
}
