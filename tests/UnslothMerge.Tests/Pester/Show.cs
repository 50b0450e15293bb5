using System.Collections;
using System.Globalization;
using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>Values as one would write them in PowerShell.</summary>
internal static class Show
{
    private const int Most = 20;

    public static string Value(object? value) => value switch
    {
        null => "$null",
        PSObject { BaseObject: PSCustomObject } custom => custom.ToString(),
        PSObject wrapped => Value(wrapped.BaseObject),
        string text => $"'{text}'",
        bool flag => flag ? "$true" : "$false",
        Type type => $"[{type.FullName}]",
        ScriptBlock body => $"{{{body}}}",
        IDictionary table => $"@{{{List(table.Keys.Cast<object>().Select(key => $"{key}={Value(table[key])}"), "; ")}}}",
        IEnumerable many => $"@({List(many.Cast<object?>().Select(Value), ", ")})",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };

    private static string List(IEnumerable<string> items, string separator)
    {
        var first = items.Take(Most + 1).ToList();
        return string.Join(separator, first.Count > Most ? first.Take(Most).Append("…") : first);
    }
}
