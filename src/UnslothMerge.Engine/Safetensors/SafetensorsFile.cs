namespace UnslothMerge.Safetensors;

/// <summary>The header of a safetensors file: <c>u64 LE N | N bytes of UTF-8 JSON | data</c>. Reads no tensor data and keeps no file
/// open.</summary>
internal sealed class SafetensorsFile
{
    private SafetensorsFile(StoredFile file, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<StoredTensor> tensors)
    {
        File = file;
        Metadata = metadata;
        Tensors = tensors;
    }

    public StoredFile File { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensors in the order of their data.</summary>
    public IReadOnlyList<StoredTensor> Tensors { get; }

    /// <summary>Reads and checks a file's header.</summary>
    public static SafetensorsFile Open(string path)
    {
        try
        {
            using var handle = FolderFile.Open(path);
            return Read(StoredFile.Of(path), (offset, bytes) => handle.ReadFully(bytes, offset));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidModel, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    /// <summary>Reads and checks the header of a file that is on the Hub yet.</summary>
    public static SafetensorsFile Open(RemoteFile file) => Read(StoredFile.Of(file), (offset, bytes) =>
    {
        file.Read(offset, bytes);
        return true;
    });

    // A header may take 100 MB, for a moment: they would stay on the heap.
    private static unsafe SafetensorsFile Read(StoredFile file, ReadBytes read)
    {
        var path = file.Path;
        Span<byte> prefix = stackalloc byte[8];
        if (file.Length < 8 || !read(0, prefix))
        {
            throw new SafetensorsException(
                SafetensorsError.HeaderTooSmall, path,
                $"it {(file.Length == 0 ? "is empty" : $"has {file.Length} bytes")}, the length of the header alone takes 8 bytes.");
        }

        var length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (length > Limits.HeaderBytes)
        {
            throw (file.Remote is null ? FailedDownload.Find(path, MergeError.InvalidSafetensors) : null) ?? new SafetensorsException(
                SafetensorsError.HeaderTooLarge, path, $"its header claims {length} bytes, the format allows {Limits.HeaderBytes}.");
        }

        if ((long)length + 8 > file.Length)
        {
            throw new SafetensorsException(
                SafetensorsError.InvalidHeaderLength, path, $"its header claims {length} bytes, the file has {file.Length}.");
        }

        var header = NativeMemory.Alloc((nuint)length);
        try
        {
            var json = new Span<byte>(header, (int)length);
            return read(8, json)
                ? Parse(json, file)
                : throw new SafetensorsException(SafetensorsError.InvalidHeaderLength, path, "the file ends inside its header.");
        }
        finally
        {
            NativeMemory.Free(header);
        }
    }

    // False if the file ends before.
    private delegate bool ReadBytes(long offset, Span<byte> bytes);

    private static SafetensorsFile Parse(ReadOnlySpan<byte> json, StoredFile file)
    {
        try
        {
            _ = new UTF8Encoding(false, throwOnInvalidBytes: true).GetCharCount(json);
        }
        catch (DecoderFallbackException e)
        {
            throw new SafetensorsException(SafetensorsError.InvalidHeader, file.Path, $"its header is not UTF-8: {e.Message}");
        }

        var (metadata, entries) = HeaderJson.Read(json, file.Path);
        entries.Sort((a, b) => (a.Begin, a.End).CompareTo((b.Begin, b.End)));
        var shapes = new Dictionary<ulong[], long[]>();

        var dataStart = 8L + json.Length;
        var tensors = new StoredTensor[entries.Count];
        var position = 0UL;
        for (var i = 0; i < tensors.Length; i++)
        {
            var entry = entries[i];
            if (entry.Begin != position || entry.End < entry.Begin)
            {
                throw Invalid(
                    SafetensorsError.InvalidOffset,
                    $"its data lies at [{entry.Begin}, {entry.End}], but the data before it ends at {position}.");
            }

            var bytes = Bytes(entry, file.Path);
            if (bytes != entry.End - entry.Begin)
            {
                throw Invalid(
                    SafetensorsError.TensorInvalidInfo, $"{Describe(entry)} takes {bytes} bytes, its data has {entry.End - entry.Begin}.");
            }

            position = entry.End;
            if (!shapes.TryGetValue(entry.Shape, out var shape))
            {
                shapes.Add(entry.Shape, shape = Array.ConvertAll(entry.Shape, d => (long)d));
            }

            tensors[i] = new StoredTensor(entry.StoredName, entry.Type, shape, file, dataStart + (long)entry.Begin, (long)bytes);

            SafetensorsException Invalid(SafetensorsError kind, string detail) => new(kind, file.Path, detail, entry.Name);
        }

        return position == (ulong)(file.Length - dataStart)
            ? new SafetensorsFile(file, metadata, tensors)
            : throw new SafetensorsException(
                SafetensorsError.MetadataIncompleteBuffer,
                file.Path,
                $"its header describes {(decimal)position + dataStart} bytes, the file has {file.Length}.");
    }

    private static ulong Bytes(HeaderEntry entry, string path)
    {
        var bits = (ulong)entry.Type.Bits();
        try
        {
            foreach (var dimension in entry.Shape)
            {
                bits = checked(bits * (ulong)(long)dimension);
            }
        }
        catch (OverflowException)
        {
            throw new SafetensorsException(
                SafetensorsError.ValidationOverflow, path, $"the size of {Describe(entry)} overflows.", entry.Name);
        }

        return bits % 8 == 0
            ? bits / 8
            : throw new SafetensorsException(
                SafetensorsError.MisalignedSlice, path, $"{bits} bits are not a whole number of bytes.", entry.Name);
    }

    private static string Describe(HeaderEntry entry) => $"{entry.Type} [{string.Join(", ", entry.Shape)}]";
}
