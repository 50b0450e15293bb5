using System.Net;
using System.Net.Http.Headers;

namespace UnslothMerge.Hub;

/// <summary>Says what an answer of the Hub means, and what to do. Its codes decide; statuses do where there is no code.</summary>
internal static partial class HubErrors
{
    private const int MaxMessageLength = 500;

    /// <summary>The error in an answer whose body has been read.</summary>
    public static HubException Of(HttpResponseMessage answer, string body, HubCall call, HubSettings settings, HubToken? token)
    {
        var status = answer.StatusCode;
        var code = Header(answer, "X-Error-Code");
        var said = MessageOf(answer, body);
        said = token?.Hide(said) ?? said;
        var id = Header(answer, "X-Request-Id") ?? Header(answer, "x-amz-request-id");
        var (error, what, advice) = Explain(status, code, said, call, settings, token);
        var tail = said.Length > 0 && !what.Contains(said, StringComparison.Ordinal) ? $" The Hub says: {said}" : "";
        var trace = id is null ? "" : $" (request {id})";
        return new HubException(error, $"{what}{tail}{trace}", call.Repository ?? settings.Endpoint.Authority, advice)
        {
            Status = status,
            Code = code,
            RequestId = id,
            MayRepeat = MayRepeat(status),
            RetryAfter = RetryAfter(answer),
        };
    }

    /// <summary>The error of a request that had no answer.</summary>
    public static HubException Unreachable(HubCall call, HubSettings settings, Exception cause) =>
        new(MergeError.HubUnavailable,
            $"{call.What} failed: '{call.Address(settings).Authority}' cannot be reached or broke off: {Innermost(cause)}",
            call.Repository ?? settings.Endpoint.Authority,
            "Check the network, HF_ENDPOINT and the proxy variables, and repeat the command: it goes on where it was.", cause)
        {
            MayRepeat = true,
        };

    /// <summary>The error of a request that may not be made.</summary>
    public static HubException Offline(HubCall call) =>
        new(MergeError.HubUnavailable, $"{call.What} needs the Hub, but HF_HUB_OFFLINE is set or -Offline is given.", call.Repository,
            "Remove HF_HUB_OFFLINE or -Offline, or use what is in the cache.");

    /// <summary>The error of an answer that is none of a Hub.</summary>
    public static HubException NoHub(HubCall call, Exception? cause = null) => new(
        MergeError.HubUnavailable, $"{call.What} was answered by something that is no Hub{(cause is null ? "." : $": {cause.Message}")}",
        call.Repository, "Check HF_ENDPOINT, and whether a proxy or a sign-in page answers in its place.", cause);

    /// <summary>True for a status that may be another one later.</summary>
    public static bool MayRepeat(HttpStatusCode status) => (int)status is 408 or 429 or 500 or 502 or 503 or 504;

    private static (MergeError Error, string What, string Advice) Explain(
        HttpStatusCode status, string? code, string said, HubCall call, HubSettings settings, HubToken? token)
    {
        var repository = call.Repository is null ? settings.Endpoint.Authority : $"'{call.Repository}'";
        var login = token is null
            ? "Log in with 'hf auth login', set HF_TOKEN, or give -Token."
            : $"The token came from {token.Source}: use one that has this right, by 'hf auth login', HF_TOKEN or -Token.";
        switch (code)
        {
            case "RepoNotFound":
                return NotFound();
            case "RevisionNotFound":
                return (MergeError.HubNotFound, $"{repository} has no revision '{call.Revision ?? "main"}'.",
                    "Choose a branch, tag or commit of the repository with -Revision.");
            case "EntryNotFound":
                return (MergeError.HubNotFound, $"{repository} has no file '{call.File}' at '{call.Revision ?? "main"}'.",
                    "Check the name, the folder and -Revision.");
            case "GatedRepo":
                return (MergeError.HubAccessDenied, $"{repository} is gated: its owner decides who may read it.",
                    $"Accept its licence at {settings.Endpoint.ToString().TrimEnd('/')}/{call.Repository}. {login}");
        }

        switch ((int)status)
        {
            case 401 when said.Contains("Invalid credentials", StringComparison.OrdinalIgnoreCase):
                return (MergeError.HubAccessDenied,
                    $"The Hub does not accept the token{(token is null ? "" : $" from {token.Source}")} for {repository}.",
                    "It may be revoked or have expired: log in again with 'hf auth login', or give another -Token.");
            case 401:
                return NotFound();
            case 402 or 403 when Storage().IsMatch(said):
                return (MergeError.HubRefused, $"{call.What} was refused: there is no storage left for {repository}.",
                    "Free storage of the account, make the repository public, or buy more; trying again does not help.");
            case 402 or 403:
                return (MergeError.HubAccessDenied, $"{call.What} is not allowed for {repository}.", login);
            case 404:
                return (MergeError.HubNotFound, $"{call.What} found nothing at {repository}.", "Check the name and HF_ENDPOINT.");
            case 409 or 412:
                return (MergeError.HubConflict, $"{call.What} met another change of {repository}.",
                    "Someone has committed meanwhile. Look at the repository, and repeat the command.");
            case 429:
                return (MergeError.HubUnavailable, $"{call.What} failed: the Hub asks for fewer requests about {repository}.",
                    "Wait some minutes and repeat the command: it goes on where it was. A token raises the limit.");
            case >= 500 or 408:
                return (MergeError.HubUnavailable, $"{call.What} failed: the Hub answered {(int)status} for {repository}.",
                    "Repeat the command later: it goes on where it was.");
            default:
                return (MergeError.HubRefused, $"{call.What} was refused by the Hub with {(int)status} for {repository}.",
                    "Change what the Hub does not accept, and repeat the command.");
        }

        (MergeError, string, string) NotFound() =>
            (MergeError.HubNotFound,
                $"{repository} is not on the Hub ({settings.Endpoint.Authority}), or may not be seen " +
                    $"{(token is null ? "without a token" : "with this token")}.",
                $"Check the name. {(token is null ? "If it is private or gated: " : "")}{login}");
    }

    // X-Error-Message, else the JSON's error, errors or message.
    private static string MessageOf(HttpResponseMessage answer, string body)
    {
        var text = Header(answer, "X-Error-Message");
        if (text is null && body.AsSpan().TrimStart().StartsWith("{"))
        {
            try
            {
                var json = JsonNode.Parse(body) as JsonObject;
                var errors = (json?["errors"] as JsonArray ?? []).Select(e => e is JsonObject o ? o["message"]?.ToString() : e?.ToString());
                text = string.Join("; ", errors.Prepend(json?["error"]?.ToString() ?? json?["message"]?.ToString())
                    .Where(t => !string.IsNullOrWhiteSpace(t)).Distinct());
            }
            catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)
            {
                // The status says enough.
            }
        }

        text = string.Join(' ', (text ?? "").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return text.Length <= MaxMessageLength ? text : text[..MaxMessageLength] + "…";
    }

    // RateLimit: "api";r=0;t=30 on a 429; else Retry-After in seconds.
    private static TimeSpan? RetryAfter(HttpResponseMessage answer)
    {
        if (answer.StatusCode == HttpStatusCode.TooManyRequests && Header(answer, "RateLimit") is { } limit
            && Exhausted().Match(limit) is { Success: true } match)
        {
            return TimeSpan.FromSeconds(Math.Min(3600, double.Parse(match.Groups["t"].Value, CultureInfo.InvariantCulture)) + 1);
        }

        return answer.Headers.RetryAfter is RetryConditionHeaderValue { Delta: { } delta }
            ? TimeSpan.FromSeconds(Math.Min(3600, delta.TotalSeconds) + 1) : null;
    }

    private static string? Header(HttpResponseMessage answer, string name) =>
        answer.Headers.TryGetValues(name, out var values) ? values.FirstOrDefault(v => v.Length > 0) : null;

    private static string Innermost(Exception e) => e.InnerException is { } inner and not MergeException ? Innermost(inner) : e.Message;

    [GeneratedRegex(@"r=0\b.*\bt=(?<t>\d{1,9})")]
    private static partial Regex Exhausted();

    [GeneratedRegex("storage|quota", RegexOptions.IgnoreCase)]
    private static partial Regex Storage();
}
