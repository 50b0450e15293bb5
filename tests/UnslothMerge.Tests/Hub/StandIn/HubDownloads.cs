namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>Files, on their way to a reader: small ones from the Hub, large ones by a redirect to the second host.</summary>
internal sealed partial class HubDownloads(HubServer server)
{
    public List<(string Method, Regex Path, Func<HubRequest, Task> Handle)> Routes =>
    [
        ("HEAD|GET", new Regex($"^/(?<ns>[^/]+)/(?<name>[^/]+)/resolve/{HubApi.Revision}/(?<path>.+)$"), Resolve),
        ("HEAD|GET", new Regex("^/api/resolve-cache/models/(?<ns>[^/]+)/(?<name>[^/]+)/(?<rev>[^/]+)/(?<path>.+)$"), Cached),
        ("HEAD|GET", new Regex("^/objects/(?<oid>[0-9a-f]{64})$"), Object),
    ];

    private Task Resolve(HubRequest request)
    {
        var (commit, file) = Find(request);
        var headers = request.Response.Headers;
        headers["X-Repo-Commit"] = commit.Id;
        if (file.Lfs is { } oid)
        {
            headers["X-Linked-Size"] = $"{file.Size}";
            headers["X-Linked-Etag"] = $"\"{oid}\"";
            headers.ETag = $"\"{oid}\"";
            headers.Location = server.Storage.ToString().TrimEnd('/') + server.Objects.Sign("GET", $"/objects/{oid}");
            request.Response.StatusCode = 302;
        }
        else
        {
            headers.ETag = $"\"{file.Oid}\"";
            headers.Location = $"/api/resolve-cache/models/{request.Repository}/{commit.Id}/{request.Match.Groups["path"].Value}?etag=x";
            request.Response.StatusCode = 307;
        }

        return Task.CompletedTask;
    }

    private Task Cached(HubRequest request)
    {
        var (commit, file) = Find(request);
        request.Response.Headers["X-Repo-Commit"] = commit.Id;
        request.Response.Headers.ETag = $"\"{file.Oid}\"";
        return Send(request, file.Content!);
    }

    private Task Object(HubRequest request)
    {
        if (!request.IsStorage)
        {
            throw new HubRefusal(404, "Large files are on the other host.");
        }

        // What S3 does.
        if (request.Token is not null)
        {
            throw new HubRefusal(400, "Only one auth mechanism allowed");
        }

        if (!server.Objects.IsSigned("GET", request.Path, request.Query))
        {
            throw new HubRefusal(403, "Request has expired");
        }

        request.Response.Headers.ETag = $"\"{request["oid"][..32]}\"";
        return Send(request, server.Objects.Get(request["oid"]) ?? throw new HubRefusal(404, "NoSuchKey"));
    }

    private (HubCommit Commit, HubFile File) Find(HubRequest request)
    {
        var commit = HubApi.Commit(HubApi.Open(server, request), request["rev"]);
        return (commit, commit.Files.GetValueOrDefault(request["path"])
            ?? throw new HubRefusal(404, "Entry not found", "EntryNotFound") { Commit = commit.Id });
    }

    private async Task Send(HubRequest request, byte[] content)
    {
        var part = content.AsMemory();
        request.Response.Headers.AcceptRanges = "bytes";
        if (Range().Match(request.Context.Request.Headers.Range.ToString()) is { Success: true } range)
        {
            var from = long.Parse(range.Groups["from"].Value, CultureInfo.InvariantCulture);
            var to = range.Groups["to"] is { Length: > 0 } end ? long.Parse(end.Value, CultureInfo.InvariantCulture) : content.Length - 1;
            to = Math.Min(to, content.Length - 1);
            if (from > to)
            {
                request.Response.StatusCode = 416;
                request.Response.Headers.ContentRange = $"bytes */{content.Length}";
                return;
            }

            part = part[(int)from..(int)(to + 1)];
            request.Response.StatusCode = 206;
            request.Response.Headers.ContentRange = $"bytes {from}-{to}/{content.Length}";
        }

        request.Response.ContentType = "application/octet-stream";
        request.Response.ContentLength = part.Length;
        if (request.Method != "HEAD")
        {
            if (server.Stall?.Invoke(request) is var (after, until) && part.Length > after)
            {
                await request.Response.Body.WriteAsync(part[..after]);
                await request.Response.Body.FlushAsync();
                await until;
                part = part[after..];
            }

            await (server.Line?.Send(request.Response.Body, part) ?? request.Response.Body.WriteAsync(part).AsTask());
        }
    }

    [GeneratedRegex(@"^bytes=(?<from>\d+)-(?<to>\d*)$")]
    private static partial Regex Range();
}
