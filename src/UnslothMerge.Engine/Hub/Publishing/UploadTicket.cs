namespace UnslothMerge.Hub.Publishing;

/// <summary>Where the Hub wants a large file: one signed address, or one for each part and one that joins them.</summary>
internal sealed record UploadTicket(string Href, IReadOnlyDictionary<string, string> Header, long PartSize, IReadOnlyList<string> Parts,
    string? Verify)
{
    /// <summary>True if the file goes up in parts.</summary>
    public bool IsMultipart => Parts.Count > 0;

    /// <summary>The number of requests that hold the file.</summary>
    public int Count => Math.Max(1, Parts.Count);

    /// <summary>Reads the actions of a batch's answer; an address at the Hub's usual place is one at this endpoint.</summary>
    public static UploadTicket Read(JsonObject actions, long size, HubSettings settings, string repository)
    {
        var upload = actions["upload"] as JsonObject ?? throw Unknown("there is no address");
        var header = (upload["header"] as JsonObject ?? []).ToDictionary(h => h.Key, h => h.Value?.ToString() ?? "");
        var parts = header.Where(h => h.Key.All(char.IsAsciiDigit)).OrderBy(h => int.Parse(h.Key, CultureInfo.InvariantCulture))
            .Select(h => Own(h.Value, settings)).ToList();
        var partSize = 0L;
        if (header.TryGetValue("chunk_size", out var text) && (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture,
            out partSize) || partSize <= 0 || parts.Count != (size + partSize - 1) / partSize))
        {
            throw Unknown($"there are {parts.Count} parts of '{text}' bytes for {size}");
        }

        return new UploadTicket(Own((string)upload["href"]!, settings),
            header.Where(h => h.Key != "chunk_size" && !h.Key.All(char.IsAsciiDigit)).ToDictionary(h => h.Key, h => h.Value),
            partSize, partSize == 0 ? [] : parts, actions["verify"]?["href"] is { } verify ? Own((string)verify!, settings) : null);

        MergeException Unknown(string what) => new HubException(MergeError.HubRefused,
            $"The answer to an upload to '{repository}' cannot be followed: {what}.", repository, "Check HF_ENDPOINT.");
    }

    /// <summary>Where a part of the file begins, and its length.</summary>
    public (long Offset, long Length) Range(int part, long size) =>
        IsMultipart ? (part * PartSize, Math.Min(PartSize, size - (part * PartSize))) : (0, size);

    private static string Own(string address, HubSettings settings)
    {
        const string usual = "https://huggingface.co/";
        return address.StartsWith(usual, StringComparison.Ordinal)
            ? $"{settings.Endpoint.ToString().TrimEnd('/')}/{address[usual.Length..]}" : address;
    }
}
