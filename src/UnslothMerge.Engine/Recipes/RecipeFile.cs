using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace UnslothMerge.Recipes;

/// <summary>The text of a recipe, YAML or (by its extension) JSON. Both have the same content.</summary>
internal static partial class RecipeFile
{
    private const int MaxLength = 1024 * 1024;

    // An alias can repeat what it stands for, and itself, without end.
    private const int MaxDepth = 16;
    private const int MaxNodes = 100_000;

    /// <summary>Reads a file.</summary>
    public static JsonObject Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new MergeException(
                MergeError.InvalidRecipe, $"The recipe '{path}' {(Directory.Exists(path) ? "is a directory" : "does not exist")}.", path,
                "Give a file; Export-MergeRecipe writes one.");
        }

        return IsJson(path) ? JsonFile.Read(path, MergeError.InvalidRecipe) : ReadYaml(path);
    }

    /// <summary>The text of a file of that name.</summary>
    public static string Text(string path, JsonObject content)
    {
        if (IsJson(path))
        {
            return JsonFile.Text(content);
        }

        using var text = new StringWriter { NewLine = "\n" };
        new YamlStream(new YamlDocument(ToYaml(content))).Save(text, assignAnchors: false);
        return $"# Run it: Merge-LoraModel -Recipe {Path.GetFileName(path)}\n"
            + text.ToString().Replace("...\n", "", StringComparison.Ordinal);
    }

    private static bool IsJson(string path) => Path.GetExtension(path).Equals(".json", StringComparison.OrdinalIgnoreCase);

    private static JsonObject ReadYaml(string path)
    {
        try
        {
            var nodes = 0;
            return ShallowParser.Read(RegularFile.ReadText(path, MaxLength)) switch
            {
                [{ RootNode: YamlMappingNode root }] => (JsonObject)ToJson(root, 0, ref nodes)!,
                [] => [],
                _ => throw new MergeException(
                    MergeError.InvalidRecipe, $"'{path}' is not one mapping of keys to values.", path, "Begin with base: and adapters:."),
            };
        }
        catch (YamlException e)
        {
            throw new MergeException(
                MergeError.InvalidRecipe, $"'{path}' is not YAML: line {e.Start.Line}, column {e.Start.Column}: {e.Message}", path,
                "Correct that line.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidRecipe, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    private static JsonNode? ToJson(YamlNode node, int depth, ref int nodes)
    {
        if (depth > MaxDepth || nodes++ > MaxNodes)
        {
            throw new YamlException(node.Start, node.End, "there is no end to what it holds.");
        }

        switch (node)
        {
            case YamlMappingNode mapping:
                var json = new JsonObject();
                foreach (var (key, value) in mapping.Children)
                {
                    json[(key as YamlScalarNode)?.Value ?? throw new YamlException(key.Start, key.End, "a key is not a word.")] =
                        ToJson(value, depth + 1, ref nodes);
                }

                return json;
            case YamlSequenceNode sequence:
                var array = new JsonArray();
                foreach (var item in sequence.Children)
                {
                    array.Add(ToJson(item, depth + 1, ref nodes));
                }

                return array;
            default:
                var scalar = (YamlScalarNode)node;
                return scalar.Style == ScalarStyle.Plain ? Plain(scalar.Value ?? "") : scalar.Value;
        }
    }

    // The core schema of YAML 1.2: 'yes' and 'on' are words.
    private static JsonNode? Plain(string text) => text switch
    {
        "" or "~" or "null" or "Null" or "NULL" => null,
        "true" or "True" or "TRUE" => true,
        "false" or "False" or "FALSE" => false,
        _ when Number().IsMatch(text) => double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture),
        _ => text,
    };

    private static YamlNode ToYaml(JsonNode? node) => node switch
    {
        JsonObject json => new YamlMappingNode(json.Select(p => KeyValuePair.Create<YamlNode, YamlNode>(p.Key, ToYaml(p.Value)))),
        JsonArray array => new YamlSequenceNode(array.Select(ToYaml)),
        JsonValue value when value.TryGetValue(out string? text) => new YamlScalarNode(text)
        {
            Style = Plain(text) is JsonValue plain && plain.GetValueKind() == JsonValueKind.String
                ? ScalarStyle.Any : ScalarStyle.DoubleQuoted,
        },
        _ => new YamlScalarNode(node?.ToJsonString() ?? "null"),
    };

    [GeneratedRegex(@"^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$")]
    private static partial Regex Number();
}
