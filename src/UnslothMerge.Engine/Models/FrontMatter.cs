using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace UnslothMerge.Models;

/// <summary>
/// The YAML at the top of a model card. It is edited key by key in its text: order, comments, spelling and keys that nobody asked for stay
/// as their author wrote them.
/// </summary>
internal sealed partial class FrontMatter
{
    private readonly List<Part> _parts;

    /// <summary>An empty one.</summary>
    public FrontMatter() => _parts = [];

    /// <summary>Reads the text between the marks.</summary>
    public FrontMatter(string yaml) => _parts = [.. Parse(yaml.ReplaceLineEndings("\n"))];

    /// <summary>The text, with a line feed at the end of each line.</summary>
    public string Text => string.Concat(_parts.SelectMany(p => p.Lines).Select(l => l + "\n"));

    /// <summary>True if a key is there and has a value.</summary>
    public bool Has(string key) => Values(key).Count > 0;

    /// <summary>The texts of a key: of a list, or of one value; empty if it is absent or null.</summary>
    public IReadOnlyList<string> Values(string key) => _parts.Find(p => p.Key == key)?.Values ?? [];

    /// <summary>Gives a key these values, unless it has them already.</summary>
    public void Set(string key, params IReadOnlyList<string> values)
    {
        if (values.Count > 0 && !Values(key).SequenceEqual(values))
        {
            // An empty text is as good as no value, as it is where one is read.
            Put(key,
                values.Count == 1 ? new Part(key, [$"{key}: {Scalar(values[0])}"], values is [""] ? [] : values) : ListOf(key, values));
        }
    }

    /// <summary>Adds values to the list of a key, behind those that it has.</summary>
    public void Add(string key, IEnumerable<string> values)
    {
        var part = _parts.Find(p => p.Key == key);
        IReadOnlyList<string> old = part?.Values ?? [], added = [.. values.Except(old)];
        if (added.Count > 0)
        {
            IReadOnlyList<string> all = [.. old, .. added];
            Put(key,
                part?.Indent is { } indent
                ? part with { Lines = [.. part.Lines, .. added.Select(v => $"{indent}- {Scalar(v)}")], Values = all }
                : part?.Lines[^1].LastIndexOf(']') is { } end and >= 0 && old.Count > 0
                    ? part with { Lines = [.. part.Lines.SkipLast(1),
                        part.Lines[^1].Insert(end, string.Concat(added.Select(v => $", {Scalar(v)}")))], Values = all }
                : ListOf(key, all));
        }
    }

    /// <summary>Takes a key over from another card as it is written there, or removes it if that has none.</summary>
    public void Take(FrontMatter other, string key) => Put(key, other._parts.Find(p => p.Key == key));

    private void Put(string key, Part? part)
    {
        var place = _parts.FindIndex(p => p.Key == key);
        if (place >= 0)
        {
            _parts.RemoveAt(place);
        }

        if (part is not null)
        {
            _parts.Insert(place >= 0 ? place : _parts.Count, part);
        }
    }

    private static Part ListOf(string key, IReadOnlyList<string> values) =>
        new(key, [$"{key}:", .. values.Select(v => $"- {Scalar(v)}")], values, "");

    // The comments and empty lines behind a key are a part of their own: they belong to what follows.
    private static IEnumerable<Part> Parse(string yaml)
    {
        var lines = yaml.Length == 0 ? [] : yaml.Split('\n');
        var root = ShallowParser.Read(yaml) switch
        {
            [] => new YamlMappingNode(),
            [{ RootNode: YamlMappingNode { Style: not MappingStyle.Flow } mapping }] => mapping,
            [{ RootNode: var other }, ..] => throw new YamlException(other.Start, other.End, "it is not a mapping of one key a line."),
        };

        var place = 0;
        var starts = root.Children.Keys.Select(k => (int)k.Start.Line - 1).Append(lines.Length).ToList();
        foreach (var (i, (key, value)) in root.Children.Index())
        {
            yield return new Part(null, lines[place..starts[i]], []);
            for (place = starts[i + 1]; place > starts[i] + 1
                && (string.IsNullOrWhiteSpace(lines[place - 1]) || lines[place - 1].StartsWith('#')); place--)
            {
            }

            var indent = value is YamlSequenceNode { Style: not SequenceStyle.Flow } list
                ? new string(' ', (int)list.Start.Column - 1) : null;
            yield return new Part((key as YamlScalarNode)?.Value, lines[starts[i]..place], Texts(value), indent);
        }

        yield return new Part(null, lines[place..], []);
    }

    private static IReadOnlyList<string> Texts(YamlNode node) => node switch
    {
        YamlScalarNode { Value: { Length: > 0 } value } scalar when scalar.Style != ScalarStyle.Plain || value is not ("null" or "~") =>
            [value],
        YamlSequenceNode list => [.. list.OfType<YamlScalarNode>().Select(v => v.Value ?? "")],
        _ => [],
    };

    // Words as they are; what YAML would read as something else, in quotes.
    private static string Scalar(string value) =>
        Word().IsMatch(value) ? value : $"\"{Special().Replace(value, m => $"\\x{(int)m.Value[0]:x2}")}\"";

    [GeneratedRegex(@"[\\\x00-\x1f""\x7f]")]
    private static partial Regex Special();

    [GeneratedRegex(@"\A(?!(?:true|false|yes|no|on|off|y|n|null)\z)[A-Za-z][\w./+-]*\z", RegexOptions.IgnoreCase)]
    private static partial Regex Word();

    /// <summary>A key with all its lines, and the texts of its value; or lines between keys (the key is null). The indent is what stands
    /// before the dashes of a list that has its items on lines of their own; null elsewhere.</summary>
    private sealed record Part(string? Key, IReadOnlyList<string> Lines, IReadOnlyList<string> Values, string? Indent = null);
}
