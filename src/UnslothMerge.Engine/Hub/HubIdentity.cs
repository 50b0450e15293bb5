namespace UnslothMerge.Hub;

/// <summary>A token that the Hub gives in exchange for the identity of a CI job, for one repository and one hour. It is renewed before it
/// expires.</summary>
internal sealed class HubIdentity : IDisposable
{
    private static readonly TimeSpan Margin = TimeSpan.FromMinutes(5);

    private readonly Lock _gate = new();
    private readonly string _resource;
    private readonly HubSettings _settings;
    private readonly HubClient _client;
    private HubToken? _token;
    private DateTimeOffset _expires;

    private HubIdentity(string resource, HubSettings settings, TimeProvider clock)
    {
        _resource = resource;
        _settings = settings;
        _client = new HubClient(settings with { ImplicitToken = false }, clock: clock);
    }

    /// <summary>The identity of this job if HF_OIDC_RESOURCE says what it is for; else null.</summary>
    public static HubIdentity? Find(HubSettings settings, TimeProvider clock) =>
        settings.ImplicitToken && settings.Variable("HF_OIDC_RESOURCE") is { } resource ? new HubIdentity(resource, settings, clock) : null;

    /// <summary>A token that is good for some minutes at least.</summary>
    public HubToken Token(HubClient client, CancellationToken cancellation)
    {
        lock (_gate)
        {
            var now = client.Clock.GetUtcNow();
            if (_token is null || _expires - Margin < now)
            {
                var answer = _client.Json(Exchange(Subject(cancellation)), cancellation);
                _token = new HubToken(Text(answer, "access_token"), "HF_OIDC_RESOURCE");
                _expires = now + TimeSpan.FromSeconds(Math.Clamp(answer["expires_in"].Number ?? 3600, 0, 86400));
            }

            return _token;
        }
    }

    public void Dispose() => _client.Dispose();

    private HubCall Exchange(string subject)
    {
        var form = new Dictionary<string, string>
        {
            ["grant_type"] = "urn:ietf:params:oauth:grant-type:token-exchange",
            ["subject_token"] = subject,
            ["subject_token_type"] = "urn:ietf:params:oauth:token-type:id_token",
            ["resource"] = _resource,
        };
        return new HubCall(HttpMethod.Post, "/oauth/token", "Exchanging the job's identity for a token")
        {
            Content = () => new FormUrlEncodedContent(form),
            Repository = _resource,
        };
    }

    // HF_OIDC_ID_TOKEN, else what GitHub Actions issues to a job with the permission id-token: write.
    private string Subject(CancellationToken cancellation)
    {
        if (_settings.Variable("HF_OIDC_ID_TOKEN") is { } given)
        {
            return given.Trim();
        }

        if (_settings.Variable("ACTIONS_ID_TOKEN_REQUEST_URL") is not { } address
            || _settings.Variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN") is not { } token)
        {
            throw new MergeException(MergeError.HubAccessDenied, "HF_OIDC_RESOURCE is set, but this job has no identity to show.",
                "HF_OIDC_RESOURCE", "Give the job the permission id-token: write, set HF_OIDC_ID_TOKEN, or remove HF_OIDC_RESOURCE.");
        }

        var audience = Uri.EscapeDataString(_settings.Endpoint.ToString().TrimEnd('/'));
        return Text(_client.Json(
            new HubCall(HttpMethod.Get, $"{address}&audience={audience}", "Asking for the job's identity")
            {
                Authorization = HubAuthorization.Nobody,
                Headers = [("Authorization", $"Bearer {token}")],
            },
            cancellation), "value");
    }

    private static string Text(HubAnswer answer, string key) => answer[key].Text ?? throw new MergeException(
        MergeError.HubAccessDenied, $"The answer to the exchange of the job's identity has no '{key}'.", "HF_OIDC_RESOURCE",
        "Check the trusted publishers in the settings of the repository.");
}
