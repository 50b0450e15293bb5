using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace UnslothMerge.Models;

/// <summary>Reads YAML that is nested no deeper than <see cref="Limits.YamlDepth"/>: who makes a tree of it calls himself for each level.
/// </summary>
internal sealed class ShallowParser(string yaml) : IParser
{
    private readonly Parser _parser = new(new StringReader(yaml));
    private int _depth;

    /// <summary>The documents of a text.</summary>
    /// <exception cref="YamlException">It is no YAML, or nested too deep.</exception>
    public static IList<YamlDocument> Read(string yaml)
    {
        var stream = new YamlStream();
        try
        {
            stream.Load(new ShallowParser(yaml));
            return stream.Documents;
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            // What the library throws for some texts that are no YAML.
            throw new YamlException(Mark.Empty, Mark.Empty, e.Message, e);
        }
    }

    public ParsingEvent? Current => _parser.Current;

    public bool MoveNext()
    {
        if (!_parser.MoveNext())
        {
            return false;
        }

        _depth += Current is MappingStart or SequenceStart ? 1 : Current is MappingEnd or SequenceEnd ? -1 : 0;
        return _depth <= Limits.YamlDepth ? true : throw new YamlException(
            Current!.Start, Current.End, $"it is nested deeper than {Limits.YamlDepth} levels.");
    }
}
