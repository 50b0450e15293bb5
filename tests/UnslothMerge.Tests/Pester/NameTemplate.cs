using System.Management.Automation;
using System.Text.RegularExpressions;

namespace UnslothMerge.Tests.Pester;

/// <summary>
/// Fills <c>&lt;name&gt;</c>, <c>&lt;name.Property&gt;</c> and <c>&lt;_&gt;</c> in a name from -ForEach.
/// Pester fills them when the test runs and takes any variable; here the names must be known before, so anything
/// that is not in a -ForEach is an error.
/// </summary>
internal static partial class NameTemplate
{
    /// <summary>The filled name.</summary>
    /// <param name="here">A command running where the variables of the -ForEach are set.</param>
    /// <param name="name">The name as written.</param>
    /// <param name="known">The variables of all -ForEach around.</param>
    public static string Fill(PSCmdlet here, string name, IReadOnlySet<string> known)
    {
        return Template().Replace(name, match => match.Groups["literal"] is { Success: true } literal
            ? literal.Value
            : Value(here, match.Groups["expression"].Value, known));
    }

    private static string Value(PSCmdlet here, string expression, IReadOnlySet<string> known)
    {
        if (!Expression().IsMatch(expression) || !known.Contains(expression.Split('.')[0]))
        {
            throw new InvalidOperationException(
                $"The name has <{expression}>, which is not in its -ForEach. To mean it literally write `<{expression}`> in single quotes.");
        }

        var values = here.InvokeCommand.InvokeScript(useLocalScope: true, ScriptBlock.Create($"\"$(${expression})\""), input: null);
        return LanguagePrimitives.ConvertTo<string>(values.Single());
    }

    [GeneratedRegex(@"`(?<literal>[<>])|<(?<expression>[^<>`]+)>")]
    private static partial Regex Template();

    [GeneratedRegex(@"^\w+(\.\w+)*$")]
    private static partial Regex Expression();
}
