using System.Net;
using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Hub.Fetching;

/// <summary>The content of a file on the Hub, read by ranges. Its address is asked for once, and again when it has expired.</summary>
internal sealed class HubContent(HubClient client, string id, string commit, RepositoryFile file)
{
    private const int MaxRedirects = 5;
    private const int BufferBytes = 256 * 1024;

    // How often a connection that stays far behind the others is given up for a range.
    private const int MaxReplacements = 3;

    // How many tries in a row may bring no byte.
    private const int MaxTries = 5;

    // A new address is refused only if it is not the age.
    private const int MaxRefusals = 2;

    private readonly Lock _asking = new();
    private volatile Uri? _address;

    /// <summary>Reads a range and hands over what comes, in order. What was handed over is not asked for again.</summary>
    public void Read(long offset, long length, RateBoard rates, ReadBytes take, CancellationToken cancellation)
    {
        var (range, failures, refusals, replacements) = (new Range(offset, offset + length), 0, 0, 0);
        while (!range.IsRead)
        {
            var start = range.Position;
            try
            {
                if (!ReadOnce(range, replacements < MaxReplacements ? rates : null, take, cancellation))
                {
                    replacements++;
                    client.Say($"A slow connection for '{file.Path}' of '{id}' is replaced.");
                }
            }
            catch (HubException e) when (e.MayRepeat || IsExpired(e))
            {
                (failures, refusals) = range.Position > start ? (0, 0) : (failures, refusals);
                (failures, refusals) = IsExpired(e) ? (failures, refusals + 1) : (failures + 1, refusals);
                if (failures > MaxTries || refusals > MaxRefusals)
                {
                    throw;
                }

                _address = null;
                client.Say($"{e.Message} Going on at {ByteSize.Text(range.Position)} of '{file.Path}'.");
                var pause = e.RetryAfter ?? TimeSpan.FromSeconds(Math.Min(8, 1 << Math.Max(failures - 1, 0)));
                Task.Delay(pause, client.Clock, cancellation).GetAwaiter().GetResult();
            }
        }
    }

    // What a storage says of a signed address that is too old; the Hub itself says why.
    private static bool IsExpired(HubException e) => e.Status == HttpStatusCode.Forbidden && e.Code is null;

    // False if the connection was too slow to wait for.
    private bool ReadOnce(Range range, RateBoard? rates, ReadBytes take, CancellationToken cancellation)
    {
        var call = Call("Downloading") with { Headers = range.Headers };
        using var answer = Open(call, cancellation);
        using var rate = rates?.Join();
        return client.Guard(call with { Timeout = Timeout.InfiniteTimeSpan }, _ => ReadBody(answer, range, rate, take, cancellation),
            cancellation);
    }

    private bool ReadBody(HttpResponseMessage answer, Range range, RateBoard.Member? rate, ReadBytes take, CancellationToken cancellation)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            using var body = answer.Content.ReadAsStream(patience.Token);

            // A server without ranges sends everything.
            var skip = answer.StatusCode == HttpStatusCode.PartialContent ? 0 : range.Position;
            while (!range.IsRead)
            {
                patience.CancelAfter(client.Settings.DownloadTimeout);
                var wanted = (int)Math.Min(buffer.Length, skip > 0 ? skip : range.Left);
                var read = body.ReadAsync(buffer.AsMemory(0, wanted), patience.Token).AsTask().GetAwaiter().GetResult();
                if (read == 0)
                {
                    throw new HttpIOException(HttpRequestError.ResponseEnded, $"the answer ended {range.Left} bytes too early.");
                }

                if (skip > 0)
                {
                    skip -= read;
                    continue;
                }

                take(range.Position, buffer.AsSpan(0, read));
                range.Position += read;
                if (rate?.IsTooSlow(read) == true && !range.IsRead)
                {
                    return false;
                }
            }

            return true;
        }
        catch (Exception e) when (e is not MergeException && patience.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            throw new HttpIOException(
                HttpRequestError.Unknown, $"no byte came for {client.Settings.DownloadTimeout.TotalSeconds:F0} s.", e);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    // The first request learns where the bytes are; the others go there.
    private HttpResponseMessage Open(HubCall call, CancellationToken cancellation)
    {
        if (_address is { } known)
        {
            return Checked(client.Open(call with { Path = known.AbsoluteUri }, cancellation), call);
        }

        lock (_asking)
        {
            return _address is { } found
                ? Checked(client.Open(call with { Path = found.AbsoluteUri }, cancellation), call)
                : Resolve(call, cancellation);
        }
    }

    private HttpResponseMessage Resolve(HubCall call, CancellationToken cancellation)
    {
        for (var i = 0; ; i++)
        {
            var answer = client.Open(call, cancellation);
            if (LinkedHash(answer) is { } hash && file.Sha256 is not null && hash != file.Sha256)
            {
                answer.Dispose();
                throw Refused($"is another one on the Hub now ({hash}) than its listing says ({file.Sha256})");
            }

            if (client.RedirectOf(call, answer) is not { } address)
            {
                _address = call.Address(client.Settings);
                return Checked(answer, call);
            }

            answer.Dispose();
            if (i == MaxRedirects)
            {
                throw Refused("is redirected without end");
            }

            call = call with { Path = address.AbsoluteUri };
        }
    }

    private HttpResponseMessage Checked(HttpResponseMessage answer, HubCall call)
    {
        var range = answer.Content.Headers.ContentRange;
        var what = (int)answer.StatusCode / 100 == 3 ? "redirects again"
            : answer.Content.Headers.ContentEncoding.Count > 0 ? "comes compressed although that was refused"
            : answer.StatusCode == HttpStatusCode.PartialContent
                && (range?.From is not { } from || $"bytes={from}-{range.To}" != call.Headers.First(h => h.Name == "Range").Value)
                ? $"has the range {range}, not the one that was asked for"
            : null;
        if (what is null)
        {
            return answer;
        }

        answer.Dispose();
        throw new HubException(MergeError.HubUnavailable, $"{call.What} failed: the answer {what}.", id,
            "Check HF_ENDPOINT and the proxy variables.") { MayRepeat = true };
    }

    private HubCall Call(string what) =>
        new(HttpMethod.Get, $"/{id}/resolve/{commit}/{HubCall.EscapePath(file.Path)}", $"{what} '{file.Path}' of '{id}'")
        {
            Repository = id,
            Revision = commit,
            File = file.Path,
            Retry = HubRetry.Never,
            Timeout = TimeSpan.FromSeconds(60),
        };

    private static string? LinkedHash(HttpResponseMessage answer) =>
        answer.Headers.TryGetValues("X-Linked-Etag", out var values) ? values.First().Trim('"') : null;

    private HubException Refused(string what) =>
        new(MergeError.HubRefused, $"'{file.Path}' of '{id}' {what}.", id,
            "Repeat the command; if it happens again, ask the repository's owner.");

    private sealed class Range(long position, long end)
    {
        public long Position { get; set; } = position;

        public long Left => end - Position;

        public bool IsRead => Position >= end;

        public IReadOnlyList<(string Name, string Value)> Headers =>
            [("Range", $"bytes={Position}-{end - 1}"), ("Accept-Encoding", "identity"), ("X-HF-Download-Counter", "1")];
    }
}

/// <summary>Takes the next bytes of a range.</summary>
internal delegate void ReadBytes(long offset, ReadOnlySpan<byte> bytes);
