using System.Security.Cryptography;

namespace UnslothMerge.Hub.Publishing;

/// <summary>What of a publication is done already, kept in files of its user alone, so that it goes on after a kill: the finished parts of
/// large files, and pull requests whose creation was not answered.</summary>
internal sealed class UploadJournal
{
    private static readonly JsonDocumentOptions Reading = new() { AllowDuplicateProperties = false };

    private readonly string _directory;
    private readonly HubClient _client;
    private readonly IDisk _disk;
    private bool _failed;

    /// <summary>The journal of a repository.</summary>
    public UploadJournal(HubClient client, string repository, IDisk disk)
    {
        (_client, _disk) = (client, disk);
        _directory = Path.Combine(client.Settings.Home, "unslothmerge", "uploads",
            Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes($"{client.Settings.Endpoint} {repository}")))[..16]);
    }

    /// <summary>An upload that was begun: where it goes, and the ETags of its finished parts; null if there is none.</summary>
    public (UploadTicket Ticket, string?[] Etags)? Find(string oid, long size)
    {
        if (Read(oid) is not { } json)
        {
            return null;
        }

        try
        {
            var ticket = json["ticket"].Deserialize<UploadTicket>()!;
            var etags = json["etags"].Deserialize<string?[]>()!;
            return ticket.IsMultipart && etags.Length == ticket.Count && (size + ticket.PartSize - 1) / ticket.PartSize == ticket.Count
                ? (ticket, etags) : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException or NullReferenceException)
        {
            // Half written, or by another version: the file is sent from its start.
            return null;
        }
    }

    /// <summary>Keeps an upload in parts.</summary>
    public void Keep(string oid, UploadTicket ticket, IReadOnlyList<string?> etags) => Write(oid, new JsonObject
    {
        ["ticket"] = JsonSerializer.SerializeToNode(ticket),
        ["etags"] = JsonSerializer.SerializeToNode(etags),
    });

    /// <summary>Reads an entry; null if there is none.</summary>
    public JsonObject? Read(string name)
    {
        try
        {
            var path = PathOf(name);
            return File.Exists(path) ? JsonNode.Parse(File.ReadAllBytes(path), documentOptions: Reading) as JsonObject : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Writes an entry. A journal that cannot be written costs only the resuming.</summary>
    public void Write(string name, JsonObject json)
    {
        try
        {
            // The signed addresses are as good as a password while they last.
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(_directory);
            }
            else
            {
                Directory.CreateDirectory(_directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }

            _disk.Replace(PathOf(name), output => output.Write(JsonSerializer.SerializeToUtf8Bytes(json)), sync: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!Interlocked.Exchange(ref _failed, true))
            {
                _client.Say($"'{_directory}' cannot be written, so an upload that is killed begins again: {e.Message}");
            }
        }
    }

    /// <summary>Removes an entry.</summary>
    public void Remove(string name)
    {
        try
        {
            _disk.DeleteFile(PathOf(name));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What stays is used or replaced by the next publication.
        }
    }

    private string PathOf(string name) => Path.Combine(_directory, $"{name}.json");
}
