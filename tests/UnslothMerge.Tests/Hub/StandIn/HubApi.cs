using System.Net;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>The calls about repositories, and who may make them.</summary>
internal sealed partial class HubApi(HubServer server)
{
    private const string Repository = "^/api/models/(?<ns>[^/]+)/(?<name>[^/]+)";

    /// <summary>A revision in a path: escaped, or a pull request's with its slashes.</summary>
    public const string Revision = "(?<rev>refs/[^/]+/[^/]+|[^/]+)";

    public List<(string Method, Regex Path, Func<HubRequest, Task> Handle)> Routes =>
    [
        ("GET", new Regex("^/api/whoami-v2$"), WhoAmI),
        ("POST", new Regex("^/oauth/token$"), Exchange),
        ("POST", new Regex("^/api/repos/create$"), Create),
        ("POST", new Regex("^/api/validate-yaml$"), Validate),
        ("GET", new Regex($"{Repository}$"), r => Info(r, "main")),
        ("GET", new Regex($"{Repository}/revision/{Revision}$"), r => Info(r, r["rev"])),
        ("GET", new Regex($"{Repository}/tree/{Revision}(/(?<path>.+))?$"), Tree),
        ("POST", new Regex($"{Repository}/paths-info/{Revision}$"), PathsInfo),
        ("GET", new Regex($"{Repository}/commits/{Revision}$"), Commits),
        ("GET", new Regex($"{Repository}/refs$"), Refs),
        ("POST", new Regex($"{Repository}/branch/(?<branch>.+)$"), Branch),
    ];

    /// <summary>The repository of a request, for which the caller may do this.</summary>
    public static HubRepository Open(HubServer server, HubRequest request, bool write = false)
    {
        var token = request.Token;
        if (token is not null && token is not (HubServer.WriteToken or HubServer.ReadToken))
        {
            throw new HubRefusal(401, "Invalid credentials in Authorization header");
        }

        var repository = server.Repositories.GetValueOrDefault(request.Repository);
        if (repository is null || (repository.IsPrivate && token is null))
        {
            throw token is null ? new HubRefusal(401, "Invalid username or password.")
                : new HubRefusal(404, "Repository not found", "RepoNotFound");
        }

        if (repository.IsGated && token is null)
        {
            throw new HubRefusal(401, $"Access to model {repository.Id} is restricted.", "GatedRepo");
        }

        return write && token != HubServer.WriteToken
            ? throw new HubRefusal(token is null ? 401 : 403, "You don't have the rights to write to this repository") : repository;
    }

    /// <summary>The commit of a request's revision.</summary>
    public static HubCommit Commit(HubRepository repository, string revision) =>
        repository.Find(revision) ?? throw new HubRefusal(404, $"Invalid rev id: {revision}", "RevisionNotFound");

    private static Task WhoAmI(HubRequest request) => request.Token is HubServer.WriteToken or HubServer.ReadToken
        ? request.Answer(new JsonObject { ["type"] = "user", ["name"] = "org", ["orgs"] = new JsonArray() })
        : throw new HubRefusal(401, "Invalid credentials in Authorization header");

    // Whoever shows the identity of the tests gets the token that may write.
    private static Task Exchange(HubRequest request)
    {
        var form = Encoding.UTF8.GetString(request.Body).Split('&').Select(p => p.Split('=')).ToDictionary(p => p[0],
            p => WebUtility.UrlDecode(p[1]));
        return form["subject_token"] == "standin.identity" && form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
            ? request.Answer(new JsonObject { ["access_token"] = HubServer.WriteToken, ["expires_in"] = 3600 })
            : throw new HubRefusal(400, "invalid_grant");
    }

    private Task Create(HubRequest request)
    {
        var body = request.Json;
        var name = $"{(string?)body["organization"] ?? "org"}/{(string?)body["name"]}";
        var json = new JsonObject { ["url"] = $"{server.Endpoint}{name}", ["name"] = name, ["id"] = name };
        if (request.Token != HubServer.WriteToken)
        {
            throw new HubRefusal(request.Token is null ? 401 : 403, "You don't have the rights to create a model under this namespace");
        }

        if (server.Repositories.ContainsKey(name))
        {
            json["error"] = "You already created this model repo";
            return request.Answer(json, 409);
        }

        server.Repositories[name] = new HubRepository(name, (string?)body["visibility"] == "private" || (bool?)body["private"] == true);
        return request.Answer(json);
    }

    private static Task Validate(HubRequest request)
    {
        var content = (string?)request.Json["content"] ?? "";
        var errors = new JsonArray([.. BaseModel().Matches(FrontMatterOf(content)).SelectMany(m => m.Groups["id"].Captures)
            .Select(c => c.Value.Trim().Trim('"', '\'')).Where(id => id.Length > 0 && !ModelId().IsMatch(id))
            .Select(id => new JsonObject { ["message"] = $"\"base_model\" with value \"{id}\" is not valid. Use a model id." })]);
        var isValid = errors.Count == 0;
        return request.Answer(new JsonObject { ["errors"] = errors, ["warnings"] = new JsonArray() }, isValid ? 200 : 400);
    }

    private static string FrontMatterOf(string card) =>
        card.StartsWith("---", StringComparison.Ordinal) && card.IndexOf("\n---", 3, StringComparison.Ordinal) is > 0 and var end
            ? card[..(end + 1)] : "";

    private Task Info(HubRequest request, string revision)
    {
        var repository = Open(server, request);
        var commit = Commit(repository, revision);
        return request.Answer(new JsonObject
        {
            ["id"] = repository.Id,
            ["modelId"] = repository.Id,
            ["sha"] = commit.Id,
            ["private"] = repository.IsPrivate,
            ["gated"] = repository.IsGated ? "auto" : false,
            ["disabled"] = false,
            ["tags"] = new JsonArray(),
            ["siblings"] = new JsonArray([.. commit.Files.Keys.Select(f => new JsonObject { ["rfilename"] = f })]),
        });
    }

    private Task Tree(HubRequest request)
    {
        var commit = Commit(Open(server, request), request["rev"]);
        var recursive = request.Query.Contains("recursive=true", StringComparison.OrdinalIgnoreCase)
            || request.Query.Contains("recursive=1", StringComparison.Ordinal);
        var folder = request["path"] is { Length: > 0 } path ? path.TrimEnd('/') + "/" : "";
        var entries = new List<JsonNode>();
        var folders = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (name, file) in commit.Files.Where(f => f.Key.StartsWith(folder, StringComparison.Ordinal)))
        {
            var parts = name[folder.Length..].Split('/');
            for (var i = 1; i < (recursive ? parts.Length : Math.Min(2, parts.Length)); i++)
            {
                var parent = folder + string.Join('/', parts[..i]);
                if (folders.Add(parent))
                {
                    entries.Add(new JsonObject
                    {
                        ["type"] = "directory", ["oid"] = HubFile.GitHash(Encoding.UTF8.GetBytes(parent)), ["size"] = 0, ["path"] = parent,
                    });
                }
            }

            if (recursive || parts.Length == 1)
            {
                entries.Add(Entry(name, file));
            }
        }

        var cursor = CursorIn().Match(request.Query) is { Success: true } match
            ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        if (cursor + server.PageSize < entries.Count)
        {
            var query = CursorIn().Replace(request.Query, "").TrimStart('?', '&');
            var page = $"{server.Endpoint.ToString().TrimEnd('/')}{request.Path}?{query}&cursor={cursor + server.PageSize}";
            request.Response.Headers.Link = $"<{page}>; rel=\"next\"";
        }

        return request.Answer(new JsonArray([.. entries.Skip(cursor).Take(server.PageSize)]));
    }

    private Task PathsInfo(HubRequest request)
    {
        var commit = Commit(Open(server, request), request["rev"]);
        var text = Encoding.UTF8.GetString(request.Body);
        var paths = text.StartsWith('{') ? request.Json["paths"]!.AsArray().Select(p => (string)p!)
            : text.Split('&').Where(p => p.StartsWith("paths=", StringComparison.Ordinal)).Select(p => WebUtility.UrlDecode(p[6..]));
        return request.Answer(new JsonArray(
            [.. paths.Where(commit.Files.ContainsKey).Select(p => Entry(p, commit.Files[p]))]));
    }

    private static JsonObject Entry(string path, HubFile file)
    {
        var entry = new JsonObject { ["type"] = "file", ["oid"] = file.Oid, ["size"] = file.Size, ["path"] = path };
        if (file.Lfs is { } oid)
        {
            entry["lfs"] = new JsonObject { ["oid"] = oid, ["size"] = file.Size, ["pointerSize"] = file.Pointer.Length };
            entry["xetHash"] = new string([.. oid.Reverse()]);
        }

        return entry;
    }

    private Task Commits(HubRequest request)
    {
        var repository = Open(server, request);
        var list = new JsonArray();
        for (HubCommit? commit = Commit(repository, request["rev"]); commit is not null; commit = repository.Find(commit.Parent ?? ""))
        {
            list.Add(new JsonObject { ["id"] = commit.Id, ["title"] = commit.Title, ["message"] = commit.Description });
        }

        return request.Answer(list);
    }

    private Task Refs(HubRequest request)
    {
        var refs = Open(server, request).Refs;
        JsonArray Named(Func<string, bool> which, string prefix) => new([.. refs.Where(r => which(r.Key)).Select(r => new JsonObject
        {
            ["name"] = r.Key, ["ref"] = r.Key.StartsWith("refs/", StringComparison.Ordinal) ? r.Key : prefix + r.Key,
            ["targetCommit"] = r.Value,
        })]);
        var json = new JsonObject
        {
            ["branches"] = Named(n => !n.StartsWith("refs/", StringComparison.Ordinal), "refs/heads/"),
            ["converts"] = new JsonArray(),
            ["tags"] = new JsonArray(),
        };
        if (request.Query.Contains("include_prs", StringComparison.Ordinal))
        {
            json["pullRequests"] = Named(n => n.StartsWith("refs/pr/", StringComparison.Ordinal), "");
        }

        return request.Answer(json);
    }

    private Task Branch(HubRequest request)
    {
        var repository = Open(server, request, write: true);
        var start = request.Body.Length > 0 && (string?)request.Json["startingPoint"] is { } point ? point : "main";
        return repository.Refs.TryAdd(request["branch"], Commit(repository, start).Id)
            ? request.Answer(new JsonObject()) : throw new HubRefusal(409, "Reference already exists");
    }

    [GeneratedRegex(@"^base_model:(?:[ \t]*(?<id>[^\n\[]+)|[ \t]*\n(?:- (?<id>[^\n]+)\n)+)", RegexOptions.Multiline)]
    private static partial Regex BaseModel();

    [GeneratedRegex(@"^[\w.-]+/[\w.-]+$")]
    private static partial Regex ModelId();

    [GeneratedRegex(@"&cursor=(\d+)")]
    private static partial Regex CursorIn();
}
