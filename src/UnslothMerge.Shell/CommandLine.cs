using System.Text;
using Microsoft.PowerShell;

namespace UnslothMerge.Shell;

/// <summary>Reads the command line as pwsh does: names may be cut short, the first bare argument is a script.</summary>
internal static class CommandLine
{
    public const string Help = """
        Usage: unslothmerge [options] [[-File] script.ps1 [arguments]]
               unslothmerge [options] -Command text | -

        A PowerShell with the module UnslothMerge imported. Without a script or a command it prompts for commands;
        where standard input is redirected it runs that.

          -Command, -c text           run the text, made of all that follows; - runs standard input
          -EncodedCommand, -e base64  run the UTF-16 text so encoded
          -File, -f script            run a script, with all that follows as its arguments
          -NoExit                     prompt afterwards
          -NonInteractive             never ask: a question is an error
          -NoProfile                  do not run the profile ($PROFILE)
          -NoLogo                     no greeting
          -WorkingDirectory, -wd dir  start there
          -ExecutionPolicy, -ep name  which scripts may run (Windows)
          -Version, -Help
        """;

    // The first name of each is the full one, with the shortest prefix that pwsh accepts for it; the rest are aliases.
    private static readonly (string Name, int Shortest, string[] Aliases)[] Known =
    [
        ("command", 1, []),
        ("encodedcommand", 1, ["ec"]),
        ("executionpolicy", 2, ["ep"]),
        ("file", 1, []),
        ("help", 1, ["?"]),
        ("interactive", 1, []),
        ("login", 1, []),
        ("noexit", 3, []),
        ("nologo", 3, []),
        ("noninteractive", 4, []),
        ("noprofile", 3, []),
        ("version", 1, []),
        ("workingdirectory", 1, ["wd"]),
    ];

    /// <exception cref="ArgumentException">An option is not known, or its value is missing or wrong.</exception>
    public static ShellOptions Parse(IReadOnlyList<string> arguments)
    {
        var options = new ShellOptions();
        for (var i = 0; i < arguments.Count; i++)
        {
            var argument = arguments[i];
            if (argument.Length < 2 || argument[0] != '-')
            {
                return argument == "-" ? options with { Mode = ShellMode.StandardInput } : Script(options, arguments, i);
            }

            var name = Complete(argument);
            switch (name)
            {
                case "command":
                    return Command(options, arguments, i + 1);
                case "file":
                    Value();
                    return arguments[i] == "-" ? options with { Mode = ShellMode.StandardInput } : Script(options, arguments, i);
                case "encodedcommand":
                    options = options with { Mode = ShellMode.Command, Text = Encoding.Unicode.GetString(Convert.FromBase64String(Value())) };
                    break;
                case "executionpolicy":
                    options = options with { ExecutionPolicy = Enum.Parse<ExecutionPolicy>(Value(), ignoreCase: true) };
                    break;
                case "workingdirectory":
                    options = options with { WorkingDirectory = Value() };
                    break;
                case "help":
                    return options with { Mode = ShellMode.Help };
                case "version":
                    return options with { Mode = ShellMode.Version };
                case "noexit":
                    options = options with { NoExit = true };
                    break;
                case "nologo":
                    options = options with { NoLogo = true };
                    break;
                case "noninteractive":
                    options = options with { NonInteractive = true };
                    break;
                case "noprofile":
                    options = options with { NoProfile = true };
                    break;
            }

            string Value() => ++i < arguments.Count
                ? arguments[i]
                : throw new ArgumentException($"The option '{argument}' needs a value.");
        }

        return options;
    }

    private static string Complete(string argument)
    {
        var given = argument.TrimStart('-').ToLowerInvariant();
        foreach (var (name, shortest, aliases) in Known)
        {
            if ((given.Length >= shortest && name.StartsWith(given, StringComparison.Ordinal)) || aliases.Contains(given))
            {
                return name;
            }
        }

        throw new ArgumentException($"The option '{argument}' is not known. See -Help.");
    }

    private static ShellOptions Command(ShellOptions options, IReadOnlyList<string> arguments, int first)
    {
        if (first == arguments.Count)
        {
            throw new ArgumentException("The option '-Command' needs a command.");
        }

        var text = string.Join(' ', arguments.Skip(first));
        return text == "-"
            ? options with { Mode = ShellMode.StandardInput }
            : options with { Mode = ShellMode.Command, Text = text };
    }

    private static ShellOptions Script(ShellOptions options, IReadOnlyList<string> arguments, int index) => options with
    {
        Mode = ShellMode.File,
        Text = arguments[index],
        Arguments = [.. arguments.Skip(index + 1)],
    };
}
