using System.Management.Automation.Language;

namespace UnslothMerge.Shell;

/// <summary>Redirected standard input as $input.</summary>
internal static class StandardInput
{
    /// <summary>
    /// The lines of standard input if the text uses $input, else null: reading it unasked would wait for a pipe
    /// that nobody writes to, and take it from the native commands in the text.
    /// </summary>
    public static IEnumerable<string>? For(string text)
    {
        if (!Console.IsInputRedirected)
        {
            return null;
        }

        var tree = Parser.ParseInput(text, out _, out _);
        var used = tree.Find(node => node is VariableExpressionAst { VariablePath.UserPath: var name } && name.Equals("input", StringComparison.OrdinalIgnoreCase), searchNestedScriptBlocks: false);
        return used is null ? null : Lines();
    }

    private static IEnumerable<string> Lines()
    {
        while (Console.In.ReadLine() is { } line)
        {
            yield return line;
        }
    }
}
