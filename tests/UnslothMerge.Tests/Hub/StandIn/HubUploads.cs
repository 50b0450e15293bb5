using System.Security.Cryptography;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>Files, on their way to a commit.</summary>
internal sealed class HubUploads(HubServer server)
{
    private const string Repository = "^/api/models/(?<ns>[^/]+)/(?<name>[^/]+)";
    private const long LargestRegular = 10 * 1024 * 1024;

    public List<(string Method, Regex Path, Func<HubRequest, Task> Handle)> Routes =>
    [
        ("POST", new Regex($"{Repository}/preupload/{HubApi.Revision}$"), Preupload),
        ("POST", new Regex("^/(?<ns>[^/]+)/(?<name>[^/]+).git/info/lfs/objects/batch$"), Batch),
        ("POST", new Regex("^/(?<ns>[^/]+)/(?<name>[^/]+).git/info/lfs/verify$"), Verify),
        ("POST", new Regex($"{Repository}/lfs-files/duplicate$"), Duplicate),
        ("POST", new Regex($"{Repository}/commit/{HubApi.Revision}$"), Commit),
        ("PUT", new Regex("^/objects/(?<oid>[0-9a-f]{64})$"), Put),
        ("PUT", new Regex("^/uploads/(?<upload>[^/]+)/(?<part>\\d+)$"), PutPart),
        ("POST", new Regex("^/uploads/(?<upload>[^/]+)$"), Complete),
    ];

    /// <summary>True for what the Hub keeps in its storage: by name, or by size.</summary>
    public static bool IsLfs(HubCommit commit, string path, long size) => size > LargestRegular
        || (commit.Files.GetValueOrDefault(".gitattributes")?.Content is { } attributes
            && Encoding.UTF8.GetString(attributes).Split('\n').Any(l => l.Contains("filter=lfs", StringComparison.Ordinal)
                && l.Split(' ')[0] is var pattern && (pattern == path || (pattern[0] == '*'
                    && path.EndsWith(pattern[1..], StringComparison.Ordinal)))));

    // Read access is enough for a pull request.
    private HubRepository Open(HubRequest request) =>
        HubApi.Open(server, request, write: !request.Query.Contains("create_pr=1", StringComparison.Ordinal));

    private Task Preupload(HubRequest request)
    {
        var commit = HubApi.Commit(Open(request), request["rev"]);
        var files = request.Json["files"]!.AsArray();
        Require(files.Count <= 256, "Too many files");
        return request.Answer(new JsonObject
        {
            ["files"] = new JsonArray([.. files.Select(f =>
            {
                var path = (string)f!["path"]!;
                Require(Convert.FromBase64String((string)f["sample"]!).Length <= 512, "The sample is too long");
                var answer = new JsonObject
                {
                    ["path"] = path,
                    ["uploadMode"] = IsLfs(commit, path, (long)f["size"]!) ? "lfs" : "regular",
                    ["shouldIgnore"] = path.EndsWith(".log", StringComparison.Ordinal),
                };
                if (commit.Files.TryGetValue(path, out var there))
                {
                    answer["oid"] = there.Lfs ?? there.Oid;
                }

                return answer;
            })]),
            ["commitOid"] = commit.Id,
        });
    }

    private Task Batch(HubRequest request)
    {
        HubApi.Open(server, request);
        Require(request.Token is not null, "Log in");
        var objects = request.Json["objects"]!.AsArray();
        Require(objects.Count <= 256 && (string?)request.Json["operation"] == "upload", "This is no upload of at most 256 objects");
        Require(request.Context.Request.ContentType?.StartsWith("application/vnd.git-lfs+json", StringComparison.Ordinal) == true,
            "This is no LFS request");
        request.Response.ContentType = "application/vnd.git-lfs+json";
        return request.Answer(new JsonObject
        {
            ["transfer"] = "basic",
            ["objects"] = new JsonArray([.. objects.Select(o =>
            {
                var (oid, size) = ((string)o!["oid"]!, (long)o["size"]!);
                var answer = new JsonObject { ["oid"] = oid, ["size"] = size, ["authenticated"] = true };
                if (server.Objects.Get(oid) is null || server.Objects.HideFromBatch.Contains(oid))
                {
                    answer["actions"] = new JsonObject
                    {
                        ["upload"] = size > server.Objects.PartSize ? Parts(oid, size) : new JsonObject
                        {
                            ["href"] = OnStorage("PUT", $"/objects/{oid}"),
                        },
                        ["verify"] = new JsonObject
                        {
                            ["href"] = $"https://huggingface.co/{request.Repository}.git/info/lfs/verify",
                        },
                    };
                }

                return answer;
            })]),
        });
    }

    private JsonObject Parts(string oid, long size)
    {
        var upload = server.Objects.Begin(oid);
        var header = new JsonObject { ["chunk_size"] = $"{server.Objects.PartSize}" };
        for (var i = 1; i <= (size + server.Objects.PartSize - 1) / server.Objects.PartSize; i++)
        {
            header[$"{i:D5}"] = OnStorage("PUT", $"/uploads/{upload}/{i}");
        }

        return new JsonObject { ["href"] = OnStorage("POST", $"/uploads/{upload}"), ["header"] = header };
    }

    private Task Put(HubRequest request)
    {
        RequireSigned(request);
        Require(Convert.ToHexStringLower(SHA256.HashData(request.Body)) == request["oid"], "BadDigest");
        server.Objects.Put(request.Body);
        Count(request["oid"]);
        return Task.CompletedTask;
    }

    private Task PutPart(HubRequest request)
    {
        RequireSigned(request);
        lock (server.Objects.Uploads)
        {
            var upload = Upload(request);
            upload.Parts[int.Parse(request["part"], CultureInfo.InvariantCulture)] = request.Body;
            Count($"{upload.Oid} {request["part"]}");
        }

        request.Response.Headers.ETag = EtagOf(request.Body);
        return Task.CompletedTask;
    }

    private void Count(string what) => server.Objects.Taken.AddOrUpdate(what, 1, (_, times) => times + 1);

    private (string Oid, SortedDictionary<int, byte[]> Parts) Upload(HubRequest request) =>
        server.Objects.Uploads.TryGetValue(request["upload"], out var upload) ? upload : throw new HubRefusal(404, "NoSuchUpload");

    private Task Complete(HubRequest request)
    {
        RequireSigned(request);
        lock (server.Objects.Uploads)
        {
            var upload = Upload(request);
            Require(request.Json["parts"]!.AsArray().Select(p => ((int)p!["partNumber"]!, (string)p["etag"]!))
                .SequenceEqual(upload.Parts.Select(p => (p.Key, EtagOf(p.Value)))), "InvalidPart");
            using var whole = new MemoryStream(upload.Parts.Values.Sum(p => p.Length));
            upload.Parts.Values.ToList().ForEach(p => whole.Write(p));
            Require(server.Objects.Put(whole.ToArray()) == upload.Oid, "BadDigest");
            server.Objects.Uploads.Remove(request["upload"]);
        }

        return request.Answer(new JsonObject());
    }

    private Task Verify(HubRequest request)
    {
        HubApi.Open(server, request);
        Require(server.Objects.Get((string)request.Json["oid"]!)?.LongLength == (long)request.Json["size"]!, "The object is not there");
        return request.Answer(new JsonObject());
    }

    private Task Duplicate(HubRequest request)
    {
        var source = HubApi.Open(server, request);
        Require(server.Repositories.ContainsKey((string)request.Json["target"]!["name"]!), "There is no such target");
        var known = source.Commits.SelectMany(c => c.Files.Values).Select(f => f.Lfs).OfType<string>().ToHashSet();
        return request.Answer(new JsonObject
        {
            ["failed"] = new JsonArray([.. request.Json["files"]!.AsArray().Where(f =>
                !known.Contains((string)f!["sha256"]!) || (string)f["xetHash"]! != new string([.. ((string)f["sha256"]!).Reverse()]))
                .Select(f => f!.DeepClone())]),
        });
    }

    private Task Commit(HubRequest request)
    {
        var repository = Open(request);
        var revision = request["rev"];
        var head = HubApi.Commit(repository, revision);
        var lines = Encoding.UTF8.GetString(request.Body).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonNode.Parse(l)!)
            .Select(l => (Key: (string)l["key"]!, Value: l["value"]!)).ToList();
        var header = lines.Single(l => l.Key == "header").Value;
        if ((string?)header["parentCommit"] is { } parent && parent != head.Id)
        {
            throw new HubRefusal(412, "A commit has happened since. Please refresh and try again.");
        }

        Require(!string.IsNullOrEmpty((string?)header["summary"]), "A commit needs a summary");
        var files = head.Files;
        foreach (var (key, value) in lines.Where(l => l.Key != "header"))
        {
            var path = (string)value["path"]!;
            switch (key)
            {
                case "file":
                    Require((string?)value["encoding"] == "base64", "The encoding is not base64");
                    var content = Convert.FromBase64String((string)value["content"]!);
                    Require(content.Length == 0 || !IsLfs(head, path, content.Length), $"{path} must be in LFS");
                    files = files.SetItem(path, HubFile.Regular(content));
                    break;
                case "lfsFile":
                    var oid = (string)value["oid"]!;
                    var size = server.Objects.Get(oid)?.LongLength;
                    Require(size is not null && ((long?)value["size"] ?? size) == size, $"LFS object of {path} is missing");
                    files = files.SetItem(path, new HubFile(null, oid, size!.Value));
                    break;
                case "deletedFile":
                    Require(files.ContainsKey(path), $"{path} is not there");
                    files = files.Remove(path);
                    break;
                default:
                    throw new HubRefusal(400, $"There is no {key} here.");
            }
        }

        var commit = repository.Add(head.Id, (string)header["summary"]!, (string?)header["description"] ?? "", files);
        var answer = new JsonObject
        {
            ["success"] = true, ["commitOid"] = commit.Id, ["commitUrl"] = $"{server.Endpoint}{repository.Id}/commit/{commit.Id}",
        };
        if (request.Query.Contains("create_pr=1", StringComparison.Ordinal))
        {
            var number = repository.Refs.Keys.Count(r => r.StartsWith("refs/pr/", StringComparison.Ordinal)) + 1;
            repository.Refs[$"refs/pr/{number}"] = commit.Id;
            answer["pullRequestUrl"] = $"{server.Endpoint}{repository.Id}/discussions/{number}";
        }
        else if (repository.Refs.ContainsKey(revision))
        {
            repository.Refs[revision] = commit.Id;
        }
        else
        {
            throw new HubRefusal(404, $"Invalid rev id: {revision}", "RevisionNotFound");
        }

        return request.Answer(answer);
    }

    private string OnStorage(string method, string path) => server.Storage.ToString().TrimEnd('/') + server.Objects.Sign(method, path);

    // What S3 does with what it does not like.
    private void RequireSigned(HubRequest request)
    {
        if (!server.Objects.IsSigned(request.Method, request.Path, request.Query))
        {
            throw new HubRefusal(403, "Request has expired");
        }

        Require(request.IsStorage && request.Token is null, "Only one auth mechanism allowed");
        if (request.Context.Request.Headers.TransferEncoding.Count > 0)
        {
            throw new HubRefusal(501, "A header you provided implies functionality that is not implemented");
        }
    }

    private static string EtagOf(byte[] part) => $"\"{Convert.ToHexStringLower(SHA256.HashData(part))[..32]}\"";

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new HubRefusal(400, message);
        }
    }
}
