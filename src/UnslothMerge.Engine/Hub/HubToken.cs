namespace UnslothMerge.Hub;

/// <summary>An access token. It has no text but for the header of a request, so that no message can show it.</summary>
internal sealed class HubToken
{
    private readonly string _value;

    /// <summary>Creates one, with the place that it came from.</summary>
    public HubToken(string value, string source)
    {
        _value = value.Trim();
        Source = source;
        if (_value.Length == 0 || _value.Any(c => c is <= ' ' or > '~'))
        {
            throw new MergeException(MergeError.InvalidArgument, $"{source} holds no access token.", source,
                "A token of the Hub begins with hf_ and has letters and digits only.");
        }
    }

    /// <summary>Where it came from: a parameter, a variable, a file.</summary>
    public string Source { get; }

    /// <summary>The value of the header Authorization.</summary>
    public System.Net.Http.Headers.AuthenticationHeaderValue Header => new("Bearer", _value);

    /// <summary>Finds the token that the Hub's tools would use; null if there is none. The exchange of an identity for a token is not among
    /// them, because it asks the Hub.</summary>
    public static HubToken? Find(HubSettings settings)
    {
        if (!settings.ImplicitToken)
        {
            return null;
        }

        foreach (var name in new[] { "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN" })
        {
            if (settings.Variable(name) is { } value && !string.IsNullOrWhiteSpace(value))
            {
                return new HubToken(value, name);
            }
        }

        if (!File.Exists(settings.TokenPath))
        {
            return null;
        }

        var text = RegularFile.ReadText(settings.TokenPath, limit: 64 * 1024);
        return string.IsNullOrWhiteSpace(text) ? null : new HubToken(text, settings.TokenPath);
    }

    /// <summary>Takes the token out of a text that others wrote.</summary>
    public string Hide(string text) => text.Replace(_value, "(token)", StringComparison.Ordinal);

    public override string ToString() => "(token)";
}
