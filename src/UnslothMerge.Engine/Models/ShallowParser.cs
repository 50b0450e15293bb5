using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace UnslothMerge.Models;

/// <summary>Reads YAML that is nested no deeper than <see cref="Limits.YamlDepth"/>: who makes a tree of it calls himself for each level.
/// </summary>
internal sealed class ShallowParser(string yaml) : IParser
{
    private readonly Parser _parser = new(new StringReader(yaml));
    private int _depth;

    public ParsingEvent? Current => _parser.Current;

    public bool MoveNext()
    {
        try
        {
            if (!_parser.MoveNext())
            {
                return false;
            }
        }
        catch (InvalidOperationException e)
        {
            // What the parser throws for some texts that are no YAML.
            throw new YamlException(Mark.Empty, Mark.Empty, e.Message, e);
        }

        _depth += Current is MappingStart or SequenceStart ? 1 : Current is MappingEnd or SequenceEnd ? -1 : 0;
        return _depth <= Limits.YamlDepth ? true : throw new YamlException(
            Current!.Start, Current.End, $"it is nested deeper than {Limits.YamlDepth} levels.");
    }
}
