using System.Collections.Concurrent;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace UnslothMerge.Tests.Hub.StandIn;

/// <summary>A Hub of its own, with state: repositories, commits, large files on a second host, signed addresses, tokens, and faults on
/// demand. The official clients of the Hub accept it.</summary>
internal sealed class HubServer : IDisposable
{
    /// <summary>Tokens that may write and read every repository, and only read.</summary>
    public const string WriteToken = "hf_standInWriter", ReadToken = "hf_standInReader";

    private readonly WebApplication _app;
    private readonly List<(HubFault Fault, int Seen)> _faults = [];
    private readonly List<(string Method, Regex Path, Func<HubRequest, Task> Handle)> _routes;
    private readonly List<string> _log = [];
    private readonly SemaphoreSlim _gate = new(1);

    public HubServer()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k =>
        {
            k.Limits.MaxRequestBodySize = null;
            k.Listen(IPAddress.Loopback, 0);
            k.Listen(IPAddress.Loopback, 0);
        });
        _app = builder.Build();
        _app.Run(Handle);
        ((IHost)_app).Start();
        var addresses = _app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ToList();
        (Endpoint, Storage) = (new Uri(addresses[0]), new Uri(addresses[1]));
        _routes = [.. new HubApi(this).Routes, .. new HubUploads(this).Routes, .. new HubDownloads(this).Routes];
    }

    /// <summary>The Hub, and the host with its large files.</summary>
    public Uri Endpoint { get; }

    public Uri Storage { get; }

    public HubStorage Objects { get; } = new();

    public Dictionary<string, HubRepository> Repositories { get; } = new(StringComparer.Ordinal);

    /// <summary>Repositories that have another name now: old → new.</summary>
    public Dictionary<string, string> Renamed { get; } = new(StringComparer.Ordinal);

    /// <summary>How many entries a page of a listing has.</summary>
    public int PageSize { get; set; } = 1000;

    /// <summary>How fast the bytes of files come and go; null for as fast as they can.</summary>
    public HubLine? Line { get; set; }

    /// <summary>What is sent to the user with every answer.</summary>
    public string? Warning { get; set; }

    /// <summary>What a request waits for before it is done.</summary>
    public Func<HubRequest, Task>? Hold { get; set; }

    /// <summary>What the body of an answer waits for after so many bytes, if it is longer.</summary>
    public Func<HubRequest, (int After, Task Until)?>? Stall { get; set; }

    /// <summary>The environment that leads to this Hub, for a process or for <see cref="HubSettings.Read"/>.</summary>
    public (string Name, string Value)[] Environment(string home, string? token = WriteToken) =>
    [
        ("HF_ENDPOINT", Endpoint.ToString()), ("HF_HOME", home), ("HF_TOKEN", token ?? ""), ("HF_HUB_OFFLINE", ""), ("HF_HUB_CACHE", ""),
        ("HF_TOKEN_PATH", ""), ("HUGGING_FACE_HUB_TOKEN", ""), ("HF_OIDC_RESOURCE", ""), ("NO_PROXY", "127.0.0.1"),
    ];

    /// <summary>The settings that lead to this Hub.</summary>
    public HubSettings Settings(string home, string? token = WriteToken)
    {
        var variables = Environment(home, token).ToDictionary(v => v.Name, v => v.Value);
        return HubSettings.Read(name => variables.GetValueOrDefault(name));
    }

    /// <summary>A repository with these files; what the Hub would put into its storage is there.</summary>
    public HubRepository Add(string id, params (string Path, byte[] Content)[] files)
    {
        var repository = Repositories[id] = new HubRepository(id, isPrivate: false);
        Commit(repository, files);
        return repository;
    }

    /// <summary>Commits files to main, as somebody else would.</summary>
    public HubCommit Commit(HubRepository repository, params (string Path, byte[] Content)[] files)
    {
        var head = repository.Head;
        var commit = repository.Add(head.Id, "Add files", "", head.Files.SetItems(files.Select(f => KeyValuePair.Create(f.Path,
            HubUploads.IsLfs(head, f.Path, f.Content.Length)
                ? new HubFile(null, Objects.Put(f.Content), f.Content.Length) : HubFile.Regular(f.Content)))));
        repository.Refs["main"] = commit.Id;
        return commit;
    }

    /// <summary>The content of a file at a revision.</summary>
    public byte[] Read(string id, string path, string revision = "main") =>
        Repositories[id].Find(revision)!.Files[path] is var file && file.Lfs is { } oid ? Objects.Get(oid)! : file.Content!;

    /// <summary>Lets requests meet a fault.</summary>
    public void Fail(HubFault fault)
    {
        lock (_faults)
        {
            _faults.Add((fault, 0));
        }
    }

    /// <summary>The faults that requests have met, with the paths of these.</summary>
    public ConcurrentQueue<(HubFault Fault, string Path)> Met { get; } = [];

    /// <summary>Lets requests meet no faults any more.</summary>
    public void Forgive()
    {
        lock (_faults)
        {
            _faults.Clear();
        }
    }

    /// <summary>The requests so far: method, path and query, and the bytes of the body.</summary>
    public IReadOnlyList<string> Log
    {
        get
        {
            lock (_log)
            {
                return [.. _log];
            }
        }
    }

    public void ForgetLog()
    {
        lock (_log)
        {
            _log.Clear();
        }
    }

    public void Dispose()
    {
        _app.StopAsync(new CancellationToken(canceled: true)).GetAwaiter().GetResult();
        _app.DisposeAsync().AsTask().GetAwaiter().GetResult();
        _gate.Dispose();
    }

    private async Task Handle(HttpContext context)
    {
        var isStorage = context.Connection.LocalPort == Storage.Port;
        var fault = FaultFor(context);
        var body = await ReadBody(context, fault);
        if (body is null)
        {
            context.Abort();
            return;
        }

        var request = new HubRequest(context, body, isStorage);
        lock (_log)
        {
            _log.Add($"{request.Method} {request.Path}{request.Query} {body.Length}");
        }

        await (Hold?.Invoke(request) ?? Task.CompletedTask);
        request.Response.Headers["X-Request-Id"] = $"request-{Log.Count}";
        if (Warning is not null)
        {
            request.Response.Headers["X-HF-Warning"] = Warning;
        }

        try
        {
            await (fault?.Kind == FaultKind.Status ? Refuse(request, fault) : Answer(request, fault));
        }
        catch (HubRefusal e)
        {
            request.Response.Headers["X-Error-Code"] = e.Code ?? "";
            request.Response.Headers["X-Error-Message"] = e.Message;
            if (e.Commit is not null)
            {
                request.Response.Headers["X-Repo-Commit"] = e.Commit;
            }

            await request.Answer(new JsonObject { ["error"] = e.Message }, e.Status);
        }
    }

    private async Task Answer(HubRequest request, HubFault? fault)
    {
        if (Renamed.FirstOrDefault(r => request.Path.Contains($"/{r.Key}", StringComparison.Ordinal)) is { Key: { } old, Value: var now })
        {
            request.Response.StatusCode = 307;
            request.Response.Headers.Location = (request.Path + request.Query).Replace($"/{old}", $"/{now}", StringComparison.Ordinal);
            return;
        }

        var stream = request.Response.Body;
        using var answer = new MemoryStream();
        if (fault is not null)
        {
            request.Response.Body = answer;
        }

        var (_, path, handle) = _routes.Find(r => r.Method.Split('|').Contains(request.Method) && r.Path.IsMatch(request.Path));
        if (handle is null)
        {
            throw new HubRefusal(404, $"There is no {request.Method} {request.Path} here.");
        }

        request.Match = path.Match(request.Path);
        try
        {
            await (request.IsStorage ? handle(request) : OneByOne(() => handle(request)));
        }
        finally
        {
            request.Response.Body = stream;
        }

        if (fault is not null)
        {
            await Spoil(request, answer.ToArray(), fault);
        }
    }

    // The Hub itself changes its state in one step.
    private async Task OneByOne(Func<Task> work)
    {
        await _gate.WaitAsync();
        try
        {
            await work();
        }
        finally
        {
            _gate.Release();
        }
    }

    private static Task Refuse(HubRequest request, HubFault fault)
    {
        foreach (var (name, value) in fault.Headers)
        {
            request.Response.Headers[name] = value;
        }

        return request.Answer(new JsonObject { ["error"] = fault.Message }, fault.Status);
    }

    private static async Task Spoil(HubRequest request, byte[] answer, HubFault fault)
    {
        var length = fault.Kind is FaultKind.Truncated or FaultKind.Reset ? (int)Math.Min(fault.At, answer.Length) : answer.Length;
        if (fault.Kind == FaultKind.FlippedBit && fault.At < answer.Length)
        {
            answer[fault.At] ^= 1;
        }

        if (fault.Kind != FaultKind.LostAnswer && length > 0)
        {
            await request.Response.Body.WriteAsync(answer.AsMemory(0, length));
            await request.Response.Body.FlushAsync();
        }

        if (fault.Kind != FaultKind.FlippedBit)
        {
            request.Context.Abort();
        }
    }

    // Null if the connection is to be reset while the body comes.
    private async Task<byte[]?> ReadBody(HttpContext context, HubFault? fault)
    {
        using var body = new MemoryStream((int)(context.Request.ContentLength ?? 0));
        var buffer = new byte[64 * 1024];
        int read;
        while ((read = await context.Request.Body.ReadAsync(buffer)) > 0)
        {
            await (Line?.Receive(read) ?? Task.CompletedTask);
            body.Write(buffer, 0, read);
            if (fault?.Kind == FaultKind.Reset && body.Length > fault.At)
            {
                return null;
            }
        }

        return fault?.Kind == FaultKind.Reset && context.Request.Method is not ("GET" or "HEAD") ? null : body.ToArray();
    }

    private HubFault? FaultFor(HttpContext context)
    {
        var target = $"{context.Request.Path}{context.Request.QueryString}";
        HubFault? met = null;
        lock (_faults)
        {
            for (var i = 0; i < _faults.Count; i++)
            {
                var (fault, seen) = _faults[i];
                if (context.Request.Method == fault.Method && target.Contains(fault.Path, StringComparison.Ordinal))
                {
                    _faults[i] = (fault, seen + 1);
                    met ??= seen >= fault.Skip && seen < fault.Skip + fault.Times ? fault : null;
                }
            }
        }

        if (met is not null)
        {
            Met.Enqueue((met, context.Request.Path));
        }

        return met;
    }
}
