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
    public static UploadTicket Read(HubAnswer actions, long size, HubSettings settings, string repository)
    {
        var upload = actions["upload"];
        var header = upload["header"].Members.ToDictionary(h => h.Key, h => h.Value.Value.ToString());
        var parts = header.Where(h => h.Key.All(char.IsAsciiDigit))
            .OrderBy(h => h.Key.TrimStart('0').Length).ThenBy(h => h.Key.TrimStart('0'), StringComparer.Ordinal)
            .Select(h => Own(h.Value, settings)).ToList();
        var partSize = 0L;
        if (header.TryGetValue("chunk_size", out var text) && (!long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture,
            out partSize) || partSize <= 0 || parts.Count != (size + partSize - 1) / partSize))
        {
            throw Unknown($"there are {parts.Count} parts of '{text}' bytes for {size}");
        }

        return new UploadTicket(Own(upload["href"].RequiredText, settings),
            header.Where(h => h.Key != "chunk_size" && !h.Key.All(char.IsAsciiDigit)).ToDictionary(h => h.Key, h => h.Value),
            partSize, partSize == 0 ? [] : parts, actions["verify"]["href"].Text is { } verify ? Own(verify, settings) : null);

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
