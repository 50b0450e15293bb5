using System.Net;

namespace UnslothMerge.Hub.Publishing;

/// <summary>Sends large files to the Hub's storage, several parts at once. What is there already is not sent. Files may be added while
/// others are on their way.</summary>
internal sealed class LfsUploader(HubClient client, string repository, string? reference, UploadJournal journal)
{
    private const int BatchSize = 256;
    private const int MaxRestarts = 3;
    private const string MediaType = "application/vnd.git-lfs+json";

    // How long a request may stand still.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly object _gate = new();
    private readonly List<Upload> _uploads = [];
    private bool _complete;
    private long _done;
    private long _total;
    private long _sent;

    /// <summary>The bytes that are there, of files that are sent.</summary>
    public long Done => Interlocked.Read(ref _done);

    /// <summary>The bytes of the files that are sent.</summary>
    public long Total => Interlocked.Read(ref _total);

    /// <summary>The bytes that were sent, repetitions included.</summary>
    public long Sent => Interlocked.Read(ref _sent);

    /// <summary>Asks where files go; those that the Hub has already are not in the answer.</summary>
    public Dictionary<string, UploadTicket> Ask(IReadOnlyList<UploadFile> files, CancellationToken cancellation)
    {
        var tickets = new Dictionary<string, UploadTicket>(StringComparer.Ordinal);
        foreach (var some in files.DistinctBy(f => f.Sha256).Chunk(BatchSize))
        {
            var body = new JsonObject
            {
                ["operation"] = "upload",
                ["transfers"] = new JsonArray("basic", "multipart"),
                ["objects"] = new JsonArray([.. some.Select(f => new JsonObject { ["oid"] = f.Sha256, ["size"] = f.Size })]),
                ["hash_algo"] = "sha256",
            };
            if (reference is not null)
            {
                body["ref"] = new JsonObject { ["name"] = reference };
            }

            var call = HubCall.Post($"/{repository}.git/info/lfs/objects/batch", "Announcing the large files", body, MediaType) with
            {
                Repository = repository, Headers = [("Accept", MediaType)],
            };
            var sizes = some.ToDictionary(f => f.Sha256!, f => f.Size);
            var answer = client.Json(call, cancellation);
            foreach (var each in answer["objects"].Items)
            {
                if (!sizes.Remove(each["oid"].RequiredText, out var size))
                {
                    continue;
                }

                if (each["error"] is { IsThere: true } error)
                {
                    var name = some.First(f => f.Sha256 == each["oid"].Text).Name;
                    throw new HubException(MergeError.HubRefused, $"'{repository}' does not take '{name}': {error["message"].Text}",
                        repository, "Check the size of the file, and the storage of the account.");
                }

                if (each["actions"] is { IsThere: true } actions)
                {
                    tickets[each["oid"].RequiredText] = UploadTicket.Read(actions, size, client.Settings, repository);
                }
            }

            if (sizes.Count > 0)
            {
                throw answer.Odd($"says nothing of {sizes.First().Key}");
            }
        }

        return tickets;
    }

    /// <summary>Adds a file to be sent. What is done when it is there runs on the thread that sent its last part.</summary>
    public void Add(UploadFile file, UploadTicket ticket, Action<UploadFile>? arrived = null)
    {
        var upload = new Upload(file, arrived);
        Interlocked.Add(ref _total, file.Size);
        if (journal.Find(file.Sha256!, file.Size) is var (old, etags))
        {
            upload.Begin(old, etags);
            Interlocked.Add(ref _done, Enumerable.Range(0, old.Count).Where(p => etags[p] is not null).Sum(p =>
                old.Range(p, file.Size).Length));
        }
        else
        {
            upload.Begin(ticket, new string?[ticket.Count]);
        }

        lock (_gate)
        {
            _uploads.Add(upload);
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Says that no more files come.</summary>
    public void CompleteAdding()
    {
        lock (_gate)
        {
            _complete = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Sends parts until all files are there; for several threads at once.</summary>
    public void Work(CancellationToken cancellation)
    {
        using var wake = cancellation.Register(() =>
        {
            lock (_gate)
            {
                Monitor.PulseAll(_gate);
            }
        });
        while (Next(cancellation) is var (upload, part, round, ticket))
        {
            try
            {
                var etag = part < 0 ? null : Put(upload.File, part, ticket, cancellation);
                var isLast = upload.Finish(part, round, etag, journal);
                if (isLast is null)
                {
                    Interlocked.Add(ref _done, part < 0 ? 0 : -ticket.Range(part, upload.File.Size).Length);
                }
                else if (isLast.Value)
                {
                    Join(upload, cancellation);
                    lock (_gate)
                    {
                        upload.IsThere = true;
                    }

                    upload.Arrived?.Invoke(upload.File);
                }
            }
            catch (HubException e) when (MayReplace(e, upload))
            {
                Restart(upload, round, e, cancellation);
            }

            lock (_gate)
            {
                Monitor.PulseAll(_gate);
            }
        }
    }

    // An address that is refused, or that was signed for an upload that is over. What was sent in parts outlasts a storage that fails: the
    // next run goes on with it, unless its address leads nowhere.
    private static bool MayReplace(HubException e, Upload upload) =>
        e.Error == MergeError.HubRefused ? e.Status is HttpStatusCode.BadRequest or HttpStatusCode.Gone
        : e.MayRepeat && upload.Ticket.IsMultipart ? e.Status is null && !upload.HasProgress
        : e.Status is not HttpStatusCode.Unauthorized;

    private (Upload Upload, int Part, int Round, UploadTicket Ticket)? Next(CancellationToken cancellation)
    {
        lock (_gate)
        {
            while (true)
            {
                cancellation.ThrowIfCancellationRequested();
                foreach (var upload in _uploads)
                {
                    if (upload.Take() is var (part, round, ticket))
                    {
                        return (upload, part, round, ticket);
                    }
                }

                if (_complete && _uploads.TrueForAll(u => u.IsThere))
                {
                    return null;
                }

                Monitor.Wait(_gate);
            }
        }
    }

    // Gives the ETag with its quotes.
    private string? Put(UploadFile file, int part, UploadTicket ticket, CancellationToken cancellation)
    {
        var (offset, length) = ticket.Range(part, file.Size);
        var tried = 0L;
        var call = new HubCall(HttpMethod.Put, ticket.IsMultipart ? ticket.Parts[part] : ticket.Href, $"Sending '{file.Name}'")
        {
            Repository = repository,
            Authorization = HubAuthorization.Nobody,
            Headers = ticket.IsMultipart ? [] : [.. ticket.Header.Select(h => (h.Key, h.Value))],
            Timeout = Patience,
            LongContent = alive =>
            {
                // What an earlier try sent does not count as progress.
                Interlocked.Add(ref _done, -tried);
                tried = 0;
                return new PartContent(file, offset, length, bytes =>
                {
                    tried += bytes;
                    Interlocked.Add(ref _done, bytes);
                    Interlocked.Add(ref _sent, bytes);
                    alive();
                });
            },
        };
        try
        {
            var etag = client.Send(call, (answer, _) => answer.Headers.TryGetValues("ETag", out var etags) ? etags.First() : null,
                cancellation);
            return etag is not null || !ticket.IsMultipart ? etag : throw new HubException(MergeError.HubRefused,
                $"The storage of '{repository}' answered a part of '{file.Name}' without an ETag.", repository,
                "Check HF_ENDPOINT and the proxy.");
        }
        catch
        {
            Interlocked.Add(ref _done, -tried);
            throw;
        }
    }

    private void Join(Upload upload, CancellationToken cancellation)
    {
        var (ticket, file) = (upload.Ticket, upload.File);
        if (ticket.IsMultipart)
        {
            var body = new JsonObject
            {
                ["oid"] = file.Sha256,
                ["parts"] = new JsonArray([.. upload.Etags.Select((e, i) => new JsonObject { ["partNumber"] = i + 1, ["etag"] = e })]),
            };
            client.Json(HubCall.Post(ticket.Href, $"Joining the parts of '{file.Name}'", body, MediaType) with
            {
                Repository = repository,
                Authorization = HubAuthorization.Nobody,
                Headers = [("Accept", MediaType), .. ticket.Header.Select(h => (h.Key, h.Value))],
            }, cancellation);
        }

        if (ticket.Verify is { } verify)
        {
            var body = new JsonObject { ["oid"] = file.Sha256, ["size"] = file.Size };
            client.Json(HubCall.Post(verify, $"Verifying '{file.Name}'", body, MediaType) with
            {
                Repository = repository,
                Authorization = HubAuthorization.Named,
                Headers = [("Accept", MediaType)],
            }, cancellation);
        }

        journal.Remove(file.Sha256!);
    }

    // A signed address that is refused, or leads nowhere, is replaced; parts that were sent to the old one are sent again.
    private void Restart(Upload upload, int round, HubException cause, CancellationToken cancellation)
    {
        lock (_gate)
        {
            if (upload.Round != round)
            {
                return;
            }

            if (upload.Restarts == MaxRestarts)
            {
                throw cause;
            }

            upload.Stop();
        }

        client.Say($"{cause.Message} Asking for another address.");
        Interlocked.Add(ref _done, -upload.SentBytes());
        journal.Remove(upload.File.Sha256!);
        var ticket = Ask([upload.File], cancellation).GetValueOrDefault(upload.File.Sha256!);
        lock (_gate)
        {
            if (ticket is not null)
            {
                upload.Begin(ticket, new string?[ticket.Count]);
                return;
            }

            Interlocked.Add(ref _done, upload.File.Size);
            upload.IsThere = true;
        }

        upload.Arrived?.Invoke(upload.File);
    }

    /// <summary>A file on its way. All but <see cref="Finish"/> happens under the uploader's lock.</summary>
    private sealed class Upload(UploadFile file, Action<UploadFile>? arrived)
    {
        private readonly Lock _gate = new();
        private Queue<int> _waiting = new();
        private string?[] _etags = [];
        private int _open;

        public UploadFile File => file;

        public Action<UploadFile>? Arrived => arrived;

        public UploadTicket Ticket { get; private set; } = null!;

        public IReadOnlyList<string?> Etags => _etags;

        public bool IsThere { get; set; }

        /// <summary>Counts the addresses that it had: answers from an earlier one do not count.</summary>
        public int Round { get; private set; }

        public int Restarts { get; private set; }

        /// <summary>True if its address has taken a part.</summary>
        public bool HasProgress { get; private set; }

        public void Begin(UploadTicket ticket, string?[] etags)
        {
            lock (_gate)
            {
                (Ticket, _etags, HasProgress) = (ticket, etags, false);
                var missing = Enumerable.Range(0, ticket.Count).Where(p => etags[p] is null).ToList();

                // With all parts there, what is left is to join them.
                _waiting = new Queue<int>(missing.Count > 0 ? missing : [-1]);
                _open = _waiting.Count;
            }
        }

        public void Stop()
        {
            lock (_gate)
            {
                Round++;
                Restarts++;
                _waiting.Clear();
            }
        }

        public (int Part, int Round, UploadTicket Ticket)? Take() =>
            _waiting.TryDequeue(out var part) ? (part, Round, Ticket) : null;

        /// <summary>Keeps what is done; true if nothing is left to send, null if it went to an earlier address.</summary>
        public bool? Finish(int part, int round, string? etag, UploadJournal journal)
        {
            lock (_gate)
            {
                if (round != Round)
                {
                    return null;
                }

                HasProgress = true;
                if (part >= 0 && Ticket.IsMultipart)
                {
                    _etags[part] = etag;
                    journal.Keep(File.Sha256!, Ticket, _etags);
                }

                return --_open == 0;
            }
        }

        public long SentBytes()
        {
            lock (_gate)
            {
                return Enumerable.Range(0, _etags.Length).Where(p => _etags[p] is not null).Sum(p => Ticket.Range(p, File.Size).Length);
            }
        }
    }
}
