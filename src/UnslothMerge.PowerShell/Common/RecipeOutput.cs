using System.Collections;
using UnslothMerge.PowerShell.Commands;
using UnslothMerge.Recipes;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The output of a recipe as parameters of Save-MergedModel: a key is the name of a parameter or an alias, in any case, with or
/// without underscores; <c>path</c> is the destination.</summary>
internal static class RecipeOutput
{
    private const string PathKey = "path";

    /// <summary>The parameters. Paths are resolved by the caller.</summary>
    public static Hashtable Parameters(MergeRecipe recipe, PSCmdlet command, Func<string, string> resolve)
    {
        var known = SavePipeline.Parameters(command).ToList();
        var parameters = new Hashtable(StringComparer.OrdinalIgnoreCase);
        foreach (var (key, value) in recipe.Output!)
        {
            var name = key == PathKey ? nameof(SaveMergedModelCommand.Destination)
                : known.Find(p => p.Aliases.Prepend(p.Name).Any(n => Plain(n) == Plain(key)))?.Name
                ?? throw new MergeException(
                    MergeError.InvalidRecipe, $"'{recipe.File}': there is no 'output.{key}' in a recipe.", recipe.File,
                    $"Keys are path and the parameters of Save-MergedModel: {string.Join(", ", known.Select(p => Snake(p.Name)))}.");
            parameters[name] = name is nameof(SaveMergedModelCommand.Destination) or nameof(SaveMergedModelCommand.Tokenizer)
                && Value(value) is string path ? resolve(path) : Value(value);
        }

        return parameters;
    }

    /// <summary>How a recipe spells the name of a parameter.</summary>
    public static string Snake(string name) => name == "DType" ? "dtype"
        : Regex.Replace(name, "(?<=[a-z0-9])(?=[A-Z])", "_").ToLowerInvariant();

    /// <summary>How a recipe writes the parameters that an advice names; empty if it names none.</summary>
    public static string Keys(string? advice, IEnumerable<string> merging, PSCmdlet command)
    {
        var known = SavePipeline.Parameters(command).ToDictionary(p => p.Name, p => $"output.{Snake(p.Name)}{Value(p)}");
        known[nameof(SaveMergedModelCommand.Destination)] = $"output.{PathKey}";
        foreach (var name in merging)
        {
            known[name] = Snake(name) + Value(command.MyInvocation.MyCommand.Parameters[name]);
        }

        string[] keys =
        [
            .. Regex.Matches(advice ?? "", "(?<=^| )-([A-Z][A-Za-z]+)").Select(m => m.Groups[1].Value).Distinct()
                .Where(known.ContainsKey).Select(n => known[n]),
        ];
        return keys.Length == 0 ? "" : $" In the recipe: {string.Join(", ", keys)}.";

        static string Value(ParameterMetadata parameter) => parameter.SwitchParameter ? ": true" : "";
    }

    private static string Plain(string name) => name.Replace("_", "", StringComparison.Ordinal).ToLowerInvariant();

    private static object? Value(JsonNode? node) => node switch
    {
        JsonArray list => list.Select(Value).ToArray(),
        JsonValue value => value.GetValueKind() switch
        {
            JsonValueKind.String => value.GetValue<string>(),
            JsonValueKind.Number => value.GetValue<double>(),
            var kind => kind == JsonValueKind.True,
        },
        _ => null,
    };
}
