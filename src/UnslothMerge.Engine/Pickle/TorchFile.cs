namespace UnslothMerge.Pickle;

/// <summary>A state dict as torch.save writes it: a zip archive of <c>NAME/data.pkl</c>, which describes the tensors, and
/// <c>NAME/data/KEY</c>, one uncompressed entry per storage. Before torch 1.6: pickles one after the other, of which the fourth describes
/// the tensors and the fifth lists the storages that follow. So tensors are handles into the file, as with safetensors, and nothing is
/// copied. Source: torch 2.13, <c>torch/serialization.py</c>.</summary>
internal static class TorchFile
{
    private const string Pickle = "/data.pkl";

    // The pickle of torch's magic number: the format before zip archives.
    private static ReadOnlySpan<byte> LegacyMagic => [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

    /// <summary>Reads the descriptions of a file's tensors, if it is a state dict that can be read in place.</summary>
    public static IReadOnlyList<StoredTensor> Open(string path)
    {
        try
        {
            var file = StoredFile.Of(path);
            using var handle = FolderFile.Open(path);
            Span<byte> magic = stackalloc byte[LegacyMagic.Length];
            return handle.ReadFully(magic, 0) && magic.SequenceEqual(LegacyMagic)
                ? ReadLegacy(handle, file)
                : Read(new ZipDirectory(handle, path), file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidAdapter, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    // Each storage is preceded by the number of its values.
    private static List<StoredTensor> ReadLegacy(SafeFileHandle handle, StoredFile file)
    {
        var start = new byte[Math.Min(file.Length, Limits.LegacyPickleBytes)];
        handle.ReadFully(start, 0);
        var (described, keys, end) = Unpickler.ReadLegacy(start, LegacyMagic.Length + 1, file.Path);
        var types = described.DistinctBy(t => t.Tensor.Storage.Key).ToDictionary(t => t.Tensor.Storage.Key, t => t.Tensor.Storage.Type);
        var storages = new Dictionary<string, (long Offset, long Length)>(StringComparer.Ordinal);
        Span<byte> count = stackalloc byte[sizeof(long)];
        long offset = end;
        foreach (var key in keys)
        {
            var length = handle.ReadFully(count, offset) && types.TryGetValue(key, out var type)
                ? (UInt128)BinaryPrimitives.ReadUInt64LittleEndian(count) * (uint)(type.Bits() / 8)
                : UInt128.MaxValue;
            if (length > (UInt128)(file.Length - offset - count.Length) || !storages.TryAdd(key, (offset + count.Length, (long)length)))
            {
                throw new PickleException(file.Path, $"its storage '{key}' is truncated or belongs to no tensor.");
            }

            offset += count.Length + (long)length;
        }

        return [.. described.Select(t => storages.TryGetValue(t.Tensor.Storage.Key, out var place)
            ? ToStored(t.Name, t.Tensor, place.Offset, place.Length, file)
            : throw new PickleException(file.Path, $"the storage of '{t.Name}' is missing."))];
    }

    private static List<StoredTensor> Read(ZipDirectory zip, StoredFile file)
    {
        var roots = zip.Names.Where(n => n.EndsWith(Pickle, StringComparison.Ordinal)).Select(n => n[..^Pickle.Length]).ToList();
        if (roots is not [var root])
        {
            throw new PickleException(file.Path, $"it is a zip archive with {roots.Count} entries data.pkl, and torch.save writes one.");
        }

        RequireLittleEndian(zip, root, file.Path);
        var (offset, length) = zip.Locate(root + Pickle)!.Value;
        if (length > Limits.PickleBytes)
        {
            throw new PickleException(file.Path, $"its data.pkl has {length} bytes; at most {Limits.PickleBytes} are read.");
        }

        var storages = new Dictionary<string, (long Offset, long Length)>(StringComparer.Ordinal);
        var tensors = new List<StoredTensor>();
        foreach (var (name, tensor) in Unpickler.Read(zip.Bytes(offset, (int)length), file.Path))
        {
            if (!storages.TryGetValue(tensor.Storage.Key, out var storage))
            {
                var key = tensor.Storage.Key;
                storage = zip.Locate($"{root}/data/{key}")
                    ?? throw new PickleException(file.Path, $"the storage of '{name}', 'data/{key}', is missing.");
                storages.Add(key, storage);
            }

            tensors.Add(ToStored(name, tensor, storage.Offset, storage.Length, file));
        }

        return tensors;
    }

    private static void RequireLittleEndian(ZipDirectory zip, string root, string path)
    {
        // Files of torch before 2.1 have no byteorder.
        if (zip.Locate($"{root}/byteorder") is var (offset, length)
            && Encoding.ASCII.GetString(zip.Bytes(offset, (int)Math.Min(length, 16))) is var order and not "little")
        {
            throw new PickleException(path, $"its byteorder is '{order}'; only little-endian files can be read.");
        }
    }

    private static StoredTensor ToStored(string name, PickledTensor tensor, long start, long length, StoredFile file)
    {
        var storage = tensor.Storage;
        var width = storage.Type.Bits() / 8;
        if ((UInt128)storage.Count * (uint)width != (UInt128)length)
        {
            throw new PickleException(
                file.Path, $"the storage of '{name}' has {length} bytes, but {storage.Count} values of {storage.Type} were expected.");
        }

        // Saturated, so that no product overflows.
        var count = tensor.Shape.Contains(0) ? 0 : tensor.Shape.Aggregate((UInt128)1, (a, b) => a > long.MaxValue ? a : a * (ulong)b);
        var last = tensor.Shape.Zip(tensor.Strides)
            .Aggregate((UInt128)tensor.Offset, (sum, d) => sum + ((UInt128)(d.First - 1) * (ulong)d.Second));
        if (count > long.MaxValue / 8 || (count > 0 ? last >= (UInt128)storage.Count : tensor.Offset > storage.Count))
        {
            throw new PickleException(
                file.Path, $"'{name}' {tensor.Shape.Text()} from {tensor.Offset} on reaches beyond its storage of {storage.Count} values.");
        }

        return count * (uint)width > UInt128.Max((UInt128)length, Limits.RepeatedBytes)
            ? throw new PickleException(
                file.Path, $"'{name}' {tensor.Shape.Text()} repeats the {storage.Count} values of its storage; at most "
                + $"{ByteSize.Text(Limits.RepeatedBytes)} are read of such a tensor.", "Save it with contiguous().")
            : new StoredTensor(name, storage.Type, tensor.Shape, file, start + (tensor.Offset * width), (long)count * width)
        {
            Strides = tensor.IsContiguous() ? null : [.. tensor.Shape.Zip(tensor.Strides)],
        };
    }
}
