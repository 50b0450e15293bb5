using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>An answer that is no success.</summary>
internal sealed class HubRefusal(int status, string message, string? code = null) : Exception(message)
{
    public int Status => status;

    public string? Code => code;

    /// <summary>The commit, where a file is not in it.</summary>
    public string? Commit { get; init; }
}

/// <summary>A request to the stand-in.</summary>
internal sealed class HubRequest(HttpContext context, byte[] body, bool isStorage)
{
    public HttpContext Context => context;

    public HttpResponse Response => context.Response;

    public byte[] Body => body;

    /// <summary>True if it came to the second host, which has the large files.</summary>
    public bool IsStorage => isStorage;

    public string Method => context.Request.Method;

    /// <summary>The path as it was sent: slashes in a revision are escaped.</summary>
    public string Path { get; } = context.Features.Get<IHttpRequestFeature>()!.RawTarget.Split('?')[0];

    public string Query => context.Request.QueryString.Value ?? "";

    public string? Token => context.Request.Headers.Authorization.ToString() is { Length: > 7 } header ? header["Bearer ".Length..] : null;

    /// <summary>What the path's pattern found.</summary>
    public Match Match { get; set; } = Match.Empty;

    /// <summary>Makes another text of an answer's JSON.</summary>
    public Func<JsonNode, string> Text { get; set; } = json => json.ToJsonString();

    public JsonNode Json => JsonNode.Parse(body)!;

    public string this[string group] => Uri.UnescapeDataString(Match.Groups[group].Value);

    public string Repository => $"{this["ns"]}/{this["name"]}";

    public Task Answer(JsonNode json, int status = 200)
    {
        Response.StatusCode = status;
        Response.ContentType = "application/json; charset=utf-8";
        var bytes = Encoding.UTF8.GetBytes(Text(json));
        Response.ContentLength = bytes.Length;
        return Method == "HEAD" ? Task.CompletedTask : Response.Body.WriteAsync(bytes).AsTask();
    }
}
