using System.Management.Automation.Runspaces;

namespace UnslothMerge.Shell;

/// <summary>Gives a script its arguments as the command line has them: -Name value, -Name:value, -Switch, value.</summary>
internal static class ScriptArguments
{
    public static void AddTo(CommandParameterCollection parameters, IEnumerable<string> arguments)
    {
        foreach (var argument in arguments)
        {
            // A negative number is a value. A lone name stays one, and the binder decides whether what follows is its value.
            if (argument.Length < 2 || argument[0] != '-' || char.IsAsciiDigit(argument[1]) || argument[1] == '.')
            {
                parameters.Add(null, argument);
            }
            else if (argument.IndexOf(':', StringComparison.Ordinal) is > 1 and var colon && colon + 1 < argument.Length)
            {
                parameters.Add(argument[..(colon + 1)], Value(argument[(colon + 1)..]));
            }
            else
            {
                parameters.Add(argument);
            }
        }
    }

    // Switches are turned off by -Switch:$false, which no shell expands on the way here.
    private static object Value(string text) => text.ToLowerInvariant() switch
    {
        "$true" => true,
        "$false" => false,
        _ => text,
    };
}
