using System.Text.RegularExpressions;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace UnslothMerge.Saving;

/// <summary>
/// The YAML at the top of a model card. It is edited key by key in its text: order, comments, spelling and keys that nobody asked for stay as their author wrote them.
/// </summary>
internal sealed partial class FrontMatter
{
    private readonly List<string> _lines = [];
    private YamlMappingNode _root = new();

    /// <summary>An empty one.</summary>
    public FrontMatter()
    {
    }

    /// <summary>Reads one.</summary>
    /// <param name="yaml">The text between the marks.</param>
    /// <exception cref="YamlException">It is not a mapping of keys.</exception>
    public FrontMatter(string yaml)
    {
        _lines.AddRange(yaml.Length == 0 ? [] : yaml.ReplaceLineEndings("\n").Split('\n'));
        Parse();
    }

    /// <summary>The text, with a line feed at the end of each line.</summary>
    public string Text => string.Concat(_lines.Select(l => l + "\n"));

    /// <summary>True if a key is there and has a value.</summary>
    public bool Has(string key) => Values(key).Count > 0;

    /// <summary>The texts of a key: of a list, or of one value; empty if it is absent or null.</summary>
    public IReadOnlyList<string> Values(string key) => Find(key) switch
    {
        YamlScalarNode { Value: { Length: > 0 } value } scalar when scalar.Style != ScalarStyle.Plain || value is not ("null" or "~") => [value],
        YamlSequenceNode list => [.. list.OfType<YamlScalarNode>().Select(v => v.Value ?? "")],
        _ => [],
    };

    /// <summary>Gives a key these values, unless it has them already.</summary>
    public void Set(string key, params IReadOnlyList<string> values)
    {
        if (values.Count > 0 && !Values(key).SequenceEqual(values))
        {
            Put(key, values.Count == 1 ? [$"{key}: {Scalar(values[0])}"] : [$"{key}:", .. values.Select(v => $"- {Scalar(v)}")]);
        }
    }

    /// <summary>Adds values to the list of a key, behind those that it has.</summary>
    public void Add(string key, IEnumerable<string> values)
    {
        var added = values.Except(Values(key)).ToList();
        if (added.Count == 0)
        {
            return;
        }

        if (Find(key) is not YamlSequenceNode { Children.Count: > 0 } list)
        {
            Put(key, [$"{key}:", .. Values(key).Concat(added).Select(v => $"- {Scalar(v)}")]);
            return;
        }

        var (start, end) = Place(key);
        var lines = _lines[start..end];
        if (list.Style != SequenceStyle.Flow)
        {
            var indent = new string(' ', (int)list.Start.Column - 1);
            lines.AddRange(added.Select(v => $"{indent}- {Scalar(v)}"));
        }
        else
        {
            var line = lines.FindLastIndex(l => l.Contains(']', StringComparison.Ordinal));
            lines[line] = lines[line].Insert(lines[line].LastIndexOf(']'), string.Concat(added.Select(v => $", {Scalar(v)}")));
        }

        Put(key, lines);
    }

    /// <summary>Takes a key over from another card as it is written there, or removes it if that has none.</summary>
    public void Take(FrontMatter other, string key)
    {
        var (start, end) = other.Has(key) ? other.Place(key) : (0, 0);
        Put(key, other._lines[start..end]);
    }

    private YamlNode? Find(string key) => _root.Children.FirstOrDefault(c => c.Key is YamlScalarNode k && k.Value == key).Value;

    private void Put(string key, IReadOnlyList<string> lines)
    {
        var (start, end) = Find(key) is null ? (_lines.Count, _lines.Count) : Place(key);
        _lines.RemoveRange(start, end - start);
        _lines.InsertRange(start, lines);
        Parse();
    }

    // The lines of a key, without the comments and empty lines behind it: they belong to what follows.
    private (int Start, int End) Place(string key)
    {
        var starts = _root.Children.Keys.Select(k => (int)k.Start.Line - 1).Order().ToList();
        var start = (int)_root.Children.Keys.OfType<YamlScalarNode>().First(k => k.Value == key).Start.Line - 1;
        var end = starts.FirstOrDefault(s => s > start, _lines.Count);
        while (end > start + 1 && (_lines[end - 1].Trim().Length == 0 || _lines[end - 1].StartsWith('#')))
        {
            end--;
        }

        return (start, end);
    }

    private void Parse()
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(Text));
        _root = stream.Documents switch
        {
            [] => new YamlMappingNode(),
            [{ RootNode: YamlMappingNode { Style: not MappingStyle.Flow } root }] => root,
            [{ RootNode: var root }, ..] => throw new YamlException(root.Start, root.End, "it is not a mapping of one key a line."),
        };
    }

    // Words as they are; what YAML would read as something else, in quotes.
    private static string Scalar(string value) => Word().IsMatch(value) ? value : $"\"{Special().Replace(value, m => $"\\x{(int)m.Value[0]:x2}")}\"";

    [GeneratedRegex(@"[\\\x00-\x1f""\x7f]")]
    private static partial Regex Special();

    [GeneratedRegex(@"\A(?!(?:true|false|yes|no|on|off|y|n|null)\z)[A-Za-z][\w./+-]*\z", RegexOptions.IgnoreCase)]
    private static partial Regex Word();
}
