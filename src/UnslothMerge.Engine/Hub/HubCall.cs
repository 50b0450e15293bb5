namespace UnslothMerge.Hub;

/// <summary>Which requests are made again after a failure that may pass.</summary>
internal enum HubRetry
{
    /// <summary>This one is not.</summary>
    Never,

    /// <summary>Five times, after 1, 2, 4, 8 and 8 seconds, or when the Hub says.</summary>
    Standard,
}

/// <summary>Who is sent the token.</summary>
internal enum HubAuthorization
{
    /// <summary>The Hub: the same scheme, host and port as its endpoint.</summary>
    Hub,

    /// <summary>Whoever the Hub named, over TLS or on its own host.</summary>
    Named,

    /// <summary>Nobody: a signed address is enough, and some storages refuse more.</summary>
    Nobody,
}

/// <summary>A request: what it asks of which address (below the endpoint, or a whole one), and what an error says it was for, as the
/// beginning of a sentence.</summary>
internal sealed record HubCall(HttpMethod Method, string Path, string What)
{
    /// <summary>The repository that errors name.</summary>
    public string? Repository { get; init; }

    /// <summary>The revision that errors name.</summary>
    public string? Revision { get; init; }

    /// <summary>The file that errors name.</summary>
    public string? File { get; init; }

    /// <summary>Makes the body, once for each try.</summary>
    public Func<HttpContent>? Content { get; init; }

    /// <summary>Makes a body that is long, once for each try: it calls the action as it goes on, and the time of the call then begins
    /// anew.</summary>
    public Func<Action, HttpContent>? LongContent { get; init; }

    /// <summary>Whether it is made again.</summary>
    public HubRetry Retry { get; init; } = HubRetry.Standard;

    /// <summary>Who is sent the token.</summary>
    public HubAuthorization Authorization { get; init; } = HubAuthorization.Hub;

    /// <summary>More headers.</summary>
    public IReadOnlyList<(string Name, string Value)> Headers { get; init; } = [];

    /// <summary>How long the answer may take, its body included where it is read whole.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(100);

    /// <summary>A call with a JSON body.</summary>
    public static HubCall Post(string path, string what, JsonNode body, string mediaType = "application/json")
    {
        var bytes = JsonSerializer.SerializeToUtf8Bytes(body);
        return new HubCall(HttpMethod.Post, path, what) { Content = () => Bytes(bytes, mediaType) };
    }

    /// <summary>A body that is in memory.</summary>
    public static ByteArrayContent Bytes(byte[] bytes, string mediaType) =>
        new(bytes) { Headers = { ContentType = new System.Net.Http.Headers.MediaTypeHeaderValue(mediaType) } };

    /// <summary>A revision in a path: its slashes are escaped.</summary>
    public static string Escape(string revision) => Uri.EscapeDataString(revision);

    /// <summary>A file's path in an address: its slashes stay.</summary>
    public static string EscapePath(string path) => string.Join('/', path.Split('/').Select(Uri.EscapeDataString));

    /// <summary>The whole address.</summary>
    /// <exception cref="HubException">The Hub gave one that is none.</exception>
    public Uri Address(HubSettings settings) => Uri.TryCreate(
        Path.StartsWith('/') ? settings.Endpoint.ToString().TrimEnd('/') + Path : Path, UriKind.Absolute, out var address)
            && address.Scheme is "http" or "https"
        ? address : throw HubErrors.NoHub(this, new UriFormatException($"it gave the address '{Path}'."));
}
