namespace UnslothMerge.Tokenizers;

/// <summary>What is learned of a vocabulary while its tokens are read: its ids, the tokens that were added to it, those that were asked
/// for, and what occurs in a sample.</summary>
internal sealed class Vocabulary(IEnumerable<string> wanted)
{
    private readonly (string Text, byte[] Utf8)[] _wanted = [.. wanted.Distinct().Select(t => (t, Encoding.UTF8.GetBytes(t)))];
    private readonly Dictionary<string, long> _found = [];
    private readonly HashSet<long> _ids = [];
    private readonly SortedList<long, string> _added = [];

    /// <summary>The number of tokens.</summary>
    public long Count => _ids.Count;

    /// <summary>The largest id; -1 without a token.</summary>
    public long LargestId { get; private set; } = -1;

    /// <summary>The tokens that were added to the model's own, by id.</summary>
    public IReadOnlyDictionary<long, string> Added => _added;

    /// <summary>The tokens and merges that occur in the samples of <see cref="RoundTrip"/>.</summary>
    public BytePairs Pairs { get; } = new();

    /// <summary>The id of one of the texts asked for.</summary>
    public long? Find(string text) => _found.TryGetValue(text, out var id) ? id : null;

    /// <summary>Takes note of an id.</summary>
    public void Add(long id)
    {
        _ids.Add(id);
        LargestId = Math.Max(LargestId, id);
    }

    /// <summary>Takes note of a token.</summary>
    public void Add(string token, long id)
    {
        Add(id);
        if (_wanted.Any(w => w.Text == token))
        {
            _found[token] = id;
        }
    }

    /// <summary>Takes note of the token that a reader is at.</summary>
    public void Add(ref readonly Utf8JsonReader token, long id)
    {
        Add(id);
        if (BytePairs.Part(in token) is { } part)
        {
            Pairs.Add(part, id);
        }

        foreach (var (text, utf8) in _wanted)
        {
            if (token.ValueTextEquals(utf8))
            {
                _found[text] = id;
            }
        }
    }

    /// <summary>Takes note of a token that was added to the model's own.</summary>
    public void AddAdded(string token, long id)
    {
        Add(token, id);
        _added[id] = token;
    }
}
