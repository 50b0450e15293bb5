namespace UnslothMerge.Tokenizers;

/// <summary>What a byte-pair vocabulary has of the samples of <see cref="RoundTrip"/>: the tokens and merges that occur in them. Encoding a
/// sample needs no others, so that a vocabulary of 250,000 tokens need not be held.</summary>
internal sealed class BytePairs
{
    private readonly Dictionary<string, int> _tokens = new(StringComparer.Ordinal);
    private readonly List<(string Left, string Right)> _merges = [];

    /// <summary>The tokens that occur, and their ids.</summary>
    public IReadOnlyDictionary<string, int> Tokens => _tokens;

    /// <summary>The merges whose result occurs, in their order.</summary>
    public IReadOnlyList<(string Left, string Right)> Merges => _merges;

    /// <summary>True if the vocabulary has a list of merges.</summary>
    public bool HasMerges { get; set; }

    /// <summary>True if tokens are spelled in characters that stand for bytes, as GPT-2's are.</summary>
    public bool IsByteLevel { get; set; }

    /// <summary>True if tokens within a word and at its end are marked, which only the pattern that splits words can tell.</summary>
    public bool HasAffixes { get; set; }

    /// <summary>The string that a reader is at; null if it does not occur. Most do not, and no string is made of them.</summary>
    public static string? Part(ref readonly Utf8JsonReader reader) =>
        reader.ValueIsEscaped || RoundTrip.Occurs(reader.ValueSpan) ? reader.GetString() : null;

    /// <summary>Keeps a token if it occurs.</summary>
    public void Add(string token, long id)
    {
        if (RoundTrip.Occurs(token))
        {
            _tokens[token] = checked((int)id);
        }
    }

    /// <summary>Keeps a merge, as <c>left right</c>, if its result occurs.</summary>
    public void AddMerge(string pair)
    {
        var space = pair.IndexOf(' ', StringComparison.Ordinal);
        AddMerge(pair[..Math.Max(space, 0)], pair[(space + 1)..]);
    }

    /// <summary>Keeps a merge if its result occurs.</summary>
    public void AddMerge(string left, string right)
    {
        if (RoundTrip.Occurs(left + right))
        {
            _merges.Add((left, right));
        }
    }
}
