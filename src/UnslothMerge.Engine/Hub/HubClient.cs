using System.Collections.Concurrent;
using Polly;
using Polly.Retry;

namespace UnslothMerge.Hub;

/// <summary>Talks to the Hub. Several threads may use it at once; each waits for its own answer.</summary>
internal sealed partial class HubClient : IDisposable
{
    private const int Tries = 5;
    private const int MaxErrorBytes = 64 * 1024;
    private const int MaxRedirects = 5;

    private static readonly string Agent = $"UnslothMerge/{typeof(HubClient).Assembly.GetName().Version!.ToString(3)}";
    private static readonly string[] KnownHubs = ["huggingface.co", "hf.co"];

    private readonly HttpClient _http;
    private readonly ResiliencePipeline _retry;
    private readonly HubToken? _token;
    private readonly HubIdentity? _identity;
    private readonly ConcurrentDictionary<string, bool> _warned = new(StringComparer.Ordinal);
    private readonly ConcurrentQueue<HubNotice> _notices = new();

    /// <summary>A client with a token, or with what the environment offers. The clock waits between tries.</summary>
    public HubClient(HubSettings settings, HubToken? token = null, TimeProvider? clock = null)
    {
        Settings = settings;
        Clock = clock ?? TimeProvider.System;
        _identity = token is null ? HubIdentity.Find(settings, Clock) : null;
        _token = token ?? (_identity is null ? HubToken.Find(settings) : null);
        _http = new HttpClient(new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            ConnectTimeout = TimeSpan.FromSeconds(15),
            PooledConnectionLifetime = TimeSpan.FromMinutes(5),
        })
        { Timeout = Timeout.InfiniteTimeSpan };
        _retry = new ResiliencePipelineBuilder { TimeProvider = Clock }.AddRetry(new RetryStrategyOptions
        {
            MaxRetryAttempts = Tries,
            ShouldHandle = e => ValueTask.FromResult(e.Outcome.Exception is HubException { MayRepeat: true }),
            DelayGenerator = e => ValueTask.FromResult<TimeSpan?>(
                (e.Outcome.Exception as HubException)?.RetryAfter ?? TimeSpan.FromSeconds(Math.Min(8, 1 << e.AttemptNumber))),
            OnRetry = e =>
            {
                Say($"{e.Outcome.Exception!.Message} Trying again in {e.RetryDelay.TotalSeconds:F0} s.");
                return default;
            },
        }).Build();
    }

    /// <summary>What the environment says.</summary>
    public HubSettings Settings { get; }

    /// <summary>What tells the time, and waits.</summary>
    public TimeProvider Clock { get; }

    /// <summary>True if the Hub is told who asks.</summary>
    public bool HasToken => _token is not null || _identity is not null;

    /// <summary>True if the token is a CI job's, which is for one repository.</summary>
    public bool IsJob => _identity is not null;

    /// <summary>Does something that throws a <see cref="HubException"/> if it fails, again if that may pass.</summary>
    public T Retry<T>(HubRetry retry, Func<CancellationToken, T> attempt, CancellationToken cancellation) =>
        retry == HubRetry.Never ? attempt(cancellation) : _retry.Execute(attempt, cancellation);

    /// <summary>Makes a request and reads its JSON, which may be missing.</summary>
    public HubAnswer Json(HubCall call, CancellationToken cancellation) => Page(call, cancellation).Answer;

    /// <summary>Makes a request and reads its JSON, and the address of the next page if there is one. Redirects within the Hub are followed
    /// where something is only read.</summary>
    public (HubAnswer Answer, string? Next) Page(HubCall call, CancellationToken cancellation)
    {
        for (var i = 0; ; i++)
        {
            var (text, next, redirect) = Send(call, (answer, stop) => (ReadText(answer, stop), NextPage(answer), RedirectOf(call, answer)),
                cancellation);
            if (redirect is null)
            {
                return (Parse(call, text), next);
            }

            if (i == MaxRedirects || call.Method != HttpMethod.Get || !IsHub(redirect))
            {
                throw new HubException(MergeError.HubRefused, $"{call.What} was redirected to {redirect.GetLeftPart(UriPartial.Path)}.",
                    call.Repository, "The repository may have been renamed: use its new name.");
            }

            call = call with { Path = redirect.AbsoluteUri };
        }
    }

    /// <summary>Makes a request, and gives what a function makes of the answer (a success or a redirect) within the time of the
    /// call.</summary>
    public T Send<T>(HubCall call, Func<HttpResponseMessage, CancellationToken, T> read, CancellationToken cancellation) =>
        Retry(call.Retry, stop => Limited(call, limit =>
        {
            using var answer = Ask(call, limit);
            return read(answer, limit.Token);
        }, stop), cancellation);

    /// <summary>Makes a request, and gives the answer as soon as its headers are there: a success or a redirect. The caller reads the body
    /// in time, with the token, and disposes of the answer.</summary>
    public HttpResponseMessage Open(HubCall call, CancellationToken cancellation) =>
        Retry(call.Retry, stop => Limited(call, limit => Ask(call, limit), stop), cancellation);

    /// <summary>Puts failures of the network as a <see cref="HubException"/> that may pass; the work has the time of the call.</summary>
    public T Guard<T>(HubCall call, Func<CancellationToken, T> work, CancellationToken cancellation) =>
        Limited(call, limit => work(limit.Token), cancellation);

    /// <summary>Waits as the clock does.</summary>
    public void Wait(TimeSpan time, CancellationToken cancellation) => Task.Delay(time, Clock, cancellation).GetAwaiter().GetResult();

    /// <summary>True if an address is the Hub's own: the same scheme, host and port, or one that everybody knows.</summary>
    public bool IsHub(Uri address) =>
        (address.Scheme == Settings.Endpoint.Scheme && address.Authority == Settings.Endpoint.Authority)
        || (address.Scheme == "https" && address.IsDefaultPort && KnownHubs.Contains(address.Host));

    /// <summary>Where an answer leads; null if it does not.</summary>
    public Uri? RedirectOf(HubCall call, HttpResponseMessage answer) => (int)answer.StatusCode / 100 == 3
        && answer.Headers.Location is { } to && Uri.TryCreate(call.Address(Settings), to, out var address) ? address : null;

    /// <summary>What the Hub and the retries had to say since the last time.</summary>
    public IEnumerable<HubNotice> TakeNotices()
    {
        while (_notices.TryDequeue(out var notice))
        {
            yield return notice;
        }
    }

    /// <summary>Tells the user something, on the thread that takes the notices.</summary>
    public void Say(string text, bool isWarning = false) => _notices.Enqueue(new HubNotice(text, isWarning));

    public void Dispose()
    {
        _http.Dispose();
        _identity?.Dispose();
    }

    private T Limited<T>(HubCall call, Func<CancellationTokenSource, T> work, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(call.Timeout);
        try
        {
            return work(limit);
        }
        catch (Exception e) when (e is not MergeException && cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException("The request was stopped.", e, cancellation);
        }
        catch (Exception e) when (
            e is HttpRequestException or IOException or OperationCanceledException
            || (limit.IsCancellationRequested && e is not MergeException))
        {
            throw HubErrors.Unreachable(call, Settings,
                limit.IsCancellationRequested ? new TimeoutException($"nothing came for {call.Timeout.TotalSeconds:F0} s", e) : e);
        }
    }

    // Asks once; an answer that is neither a success nor a redirect is an error.
    private HttpResponseMessage Ask(HubCall call, CancellationTokenSource limit)
    {
        if (Settings.Offline)
        {
            throw HubErrors.Offline(call);
        }

        var address = call.Address(Settings);
        using var request = new HttpRequestMessage(call.Method, address)
        {
            Content = call.LongContent?.Invoke(() => limit.CancelAfter(call.Timeout)) ?? call.Content?.Invoke(),
        };
        var token = _identity?.Token(this, limit.Token) ?? _token;
        if (token is not null && MayHaveToken(call.Authorization, address))
        {
            request.Headers.Authorization = token.Header;
        }

        request.Headers.TryAddWithoutValidation("User-Agent", Agent);
        request.Headers.TryAddWithoutValidation("X-Amzn-Trace-Id", Guid.NewGuid().ToString());
        foreach (var (name, value) in call.Headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        var answer = _http.Send(request, HttpCompletionOption.ResponseHeadersRead, limit.Token);
        if (answer.Headers.TryGetValues("X-HF-Warning", out var warnings))
        {
            foreach (var warning in warnings.Where(w => _warned.TryAdd(w, true)))
            {
                Say($"The Hub says: {token?.Hide(warning) ?? warning}", isWarning: true);
            }
        }

        if ((int)answer.StatusCode / 100 is 2 or 3)
        {
            return answer;
        }

        using (answer)
        {
            var text = call.Method == HttpMethod.Head ? "" : ReadText(answer, limit.Token, MaxErrorBytes);
            throw HubErrors.Of(answer, text, call, Settings, token);
        }
    }

    private bool MayHaveToken(HubAuthorization authorization, Uri address) => authorization switch
    {
        HubAuthorization.Hub => IsHub(address),
        HubAuthorization.Named => IsHub(address) || address.Scheme == "https" || address.Host == Settings.Endpoint.Host,
        _ => false,
    };

    private static string? NextPage(HttpResponseMessage answer) =>
        answer.Headers.TryGetValues("Link", out var links)
            ? links.Select(l => NextLink().Match(l)).FirstOrDefault(m => m.Success)?.Groups["to"].Value : null;

    // <https://…>; rel="next"
    [GeneratedRegex("<(?<to>[^>]*)>[^,<]*rel=\"next\"")]
    private static partial Regex NextLink();

    // What is longer than anything that a Hub answers is cut off, and so no JSON.
    // A body is read with the token: to dispose of an answer while another thread reads its end would close the connection under the
    // request that has it next.
    private static string ReadText(HttpResponseMessage answer, CancellationToken stop, int limit = Limits.TextBytes)
    {
        using var body = new StreamReader(answer.Content.ReadAsStream(stop), Encoding.UTF8);
        var (text, piece) = (new StringBuilder(), new char[4096]);
        int read;
        while (text.Length < limit && (read = Read(Math.Min(piece.Length, limit - text.Length))) > 0)
        {
            text.Append(piece, 0, read);
        }

        return text.ToString();

        int Read(int count) => body.ReadAsync(piece.AsMemory(0, count), stop).AsTask().GetAwaiter().GetResult();
    }

    private static HubAnswer Parse(HubCall call, string text)
    {
        try
        {
            JsonSurrogates.RequireWhole(text);
            return new HubAnswer(call, string.IsNullOrWhiteSpace(text) ? default : JsonElement.Parse(text), "it");
        }
        catch (JsonException e)
        {
            throw HubErrors.NoHub(call, e);
        }
    }
}
