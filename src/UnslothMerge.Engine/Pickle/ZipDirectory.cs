namespace UnslothMerge.Pickle;

/// <summary>An entry of a zip archive: the offset of its local header, the length of its data in bytes, and why the data cannot be read in
/// place, or null.</summary>
internal sealed record ZipEntry(long Header, long Length, string? Refusal);

/// <summary>The central directory of a zip archive, ZIP64 included. .NET's ZipArchive does not say where an entry's bytes lie in the file.
/// Source: APPNOTE.TXT 6.3.10.</summary>
internal sealed class ZipDirectory
{
    private const int EndLength = 22;
    private const int LocatorLength = 20;
    private const int End64Length = 56;
    private const int CentralLength = 46;
    private const int LocalLength = 30;
    private const int MaxComment = ushort.MaxValue;

    private readonly SafeFileHandle _file;
    private readonly string _path;
    private readonly Dictionary<string, ZipEntry> _entries = new(StringComparer.Ordinal);
    private readonly long _start;

    /// <summary>Reads the directory of an open file.</summary>
    public ZipDirectory(SafeFileHandle file, string path)
    {
        _file = file;
        _path = path;
        var (start, length, count) = Find(RandomAccess.GetLength(file));
        _start = start;
        Read(Bytes(start, (int)length), count);
    }

    public IEnumerable<string> Names => _entries.Keys;

    /// <summary>Finds an entry's data: its offset in the file and its length in bytes; null if there is no such entry.</summary>
    public (long Offset, long Length)? Locate(string name)
    {
        if (!_entries.TryGetValue(name, out var entry))
        {
            return null;
        }

        if (entry.Refusal is { } refusal)
        {
            throw Invalid($"its entry '{name}' is {refusal}, which torch.save never does.");
        }

        // The local header has a name and an extra field of its own; torch pads with the latter.
        var header = Bytes(entry.Header, LocalLength);
        var offset = entry.Header + LocalLength + U16(header, 26) + U16(header, 28);
        return U32(header, 0) == 0x04034b50 && offset <= _start && entry.Length <= _start - offset
            ? (offset, entry.Length)
            : throw Invalid($"its entry '{name}' does not lie where its directory says.");
    }

    public byte[] Bytes(long offset, int length)
    {
        var bytes = new byte[length];
        return (offset >= 0 || length == 0) && _file.ReadFully(bytes, offset) ? bytes : throw Invalid("it is truncated.");
    }

    private (long Start, long Length, ulong Count) Find(long fileLength)
    {
        var tail = Bytes(fileLength - Math.Min(fileLength, EndLength + MaxComment), (int)Math.Min(fileLength, EndLength + MaxComment));
        var at = tail.Length - EndLength;
        while (at >= 0 && !(U32(tail, at) == 0x06054b50 && at + EndLength + U16(tail, at + 20) == tail.Length))
        {
            at--;
        }

        if (at < 0)
        {
            throw FailedDownload.Find(_path, MergeError.InvalidAdapter) ?? Invalid("it is not a zip archive, or its end is missing.");
        }

        var end = fileLength - tail.Length + at;
        var (count, length, start) = ((ulong)U16(tail, at + 10), (ulong)U32(tail, at + 12), (ulong)U32(tail, at + 16));
        if (count == ushort.MaxValue || length == uint.MaxValue || start == uint.MaxValue)
        {
            var locator = Bytes(end - LocatorLength, LocatorLength);
            var end64 = U32(locator, 0) == 0x07064b50
                ? Bytes((long)U64(locator, 8), End64Length)
                : throw Invalid("the end of its zip archive is broken.");
            (count, length, start) = (U64(end64, 32), U64(end64, 40), U64(end64, 48));
        }

        return length <= Limits.ArchiveDirectoryBytes && start <= (ulong)end && length <= (ulong)end - start
            ? ((long)start, (long)length, count)
            : throw Broken();
    }

    private void Read(byte[] directory, ulong count)
    {
        var at = 0;
        for (var i = 0UL; i < count; i++)
        {
            if (directory.Length - at < CentralLength || U32(directory, at) != 0x02014b50)
            {
                throw Broken();
            }

            var (name, extra, comment) = (U16(directory, at + 28), U16(directory, at + 30), U16(directory, at + 32));
            var next = at + CentralLength + name + extra + comment;
            if (next > directory.Length)
            {
                throw Broken();
            }

            var text = Encoding.UTF8.GetString(directory, at + CentralLength, name);
            if (!_entries.TryAdd(text, Entry(directory.AsSpan(at, CentralLength), directory.AsSpan(at + CentralLength + name, extra))))
            {
                throw Invalid($"its entry '{text}' occurs twice.");
            }

            at = next;
        }
    }

    private ZipEntry Entry(ReadOnlySpan<byte> fields, ReadOnlySpan<byte> extra)
    {
        var (stored, length, header) = ((ulong)U32(fields, 20), (ulong)U32(fields, 24), (ulong)U32(fields, 42));

        // The ZIP64 field holds, in this order, only what does not fit into 32 bits.
        var wide = Extra(extra, 1);
        length = Wide(length, ref wide);
        stored = Wide(stored, ref wide);
        header = Wide(header, ref wide);
        var refusal = (U16(fields, 8) & 1) != 0 ? "encrypted" : U16(fields, 10) != 0 || stored != length ? "compressed" : null;
        return length <= long.MaxValue && header <= (ulong)_start ? new ZipEntry((long)header, (long)length, refusal) : throw Broken();
    }

    private ulong Wide(ulong value, ref ReadOnlySpan<byte> wide)
    {
        if (value != uint.MaxValue)
        {
            return value;
        }

        if (wide.Length < sizeof(ulong))
        {
            throw Broken();
        }

        value = U64(wide, 0);
        wide = wide[sizeof(ulong)..];
        return value;
    }

    private static ReadOnlySpan<byte> Extra(ReadOnlySpan<byte> extra, int id)
    {
        while (extra.Length >= 4 && extra.Length - 4 >= U16(extra, 2))
        {
            if (U16(extra, 0) == id)
            {
                return extra.Slice(4, U16(extra, 2));
            }

            extra = extra[(4 + U16(extra, 2))..];
        }

        return default;
    }

    private static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);

    private PickleException Broken() => Invalid("the directory of its zip archive is broken.");

    private PickleException Invalid(string detail) =>
        new(_path, detail, "Download or copy the file again, or save it again as safetensors.");
}
