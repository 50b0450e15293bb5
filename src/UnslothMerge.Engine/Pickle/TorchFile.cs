namespace UnslothMerge.Pickle;

/// <summary>
/// A state dict as torch.save writes it: a zip archive of <c>NAME/data.pkl</c>, which describes the tensors, and <c>NAME/data/KEY</c>, one
/// uncompressed entry per storage. So tensors are handles into the archive, as with safetensors, and nothing is copied.
/// Source: torch 2.13, <c>torch/serialization.py</c>.
/// </summary>
internal static class TorchFile
{
    /// <summary>The longest <c>data.pkl</c> that is read, in bytes.</summary>
    private const int MaxPickleLength = SafetensorsFile.MaxHeaderLength;

    private const string Pickle = "/data.pkl";

    // The pickle of torch's magic number: the format before zip archives.
    private static ReadOnlySpan<byte> LegacyMagic => [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

    /// <summary>Reads the descriptions of a file's tensors, if it is a state dict that can be read in place.</summary>
    public static IReadOnlyList<StoredTensor> Open(string path)
    {
        try
        {
            using var handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            RefuseLegacy(handle, path);
            return Read(
                new ZipDirectory(handle, path),
                new StoredFile(Path.GetFullPath(path), RandomAccess.GetLength(handle), File.GetLastWriteTimeUtc(handle)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.InvalidAdapter, $"'{path}' cannot be read: {e.Message}", path, inner: e);
        }
    }

    private static void RefuseLegacy(SafeFileHandle handle, string path)
    {
        Span<byte> start = stackalloc byte[LegacyMagic.Length];
        if (RandomAccess.Read(handle, start, 0) == start.Length && start.SequenceEqual(LegacyMagic))
        {
            throw new PickleException(
                path,
                "it is in the legacy format of torch.save (before torch 1.6, or with _use_new_zipfile_serialization=False).",
                "Load it with torch.load(…, weights_only=True) and save it again with torch.save, or with PEFT, which writes safetensors.");
        }
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
        if (length > MaxPickleLength)
        {
            throw new PickleException(file.Path, $"its data.pkl has {length} bytes; at most {MaxPickleLength} are read.");
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
        if (count > (UInt128)storage.Count || (UInt128)tensor.Offset > (UInt128)storage.Count - count)
        {
            throw new PickleException(
                file.Path, $"'{name}' {tensor.Shape.Text()} from {tensor.Offset} on reaches beyond its storage of {storage.Count} values.");
        }

        return tensor.IsContiguous()
            ? new StoredTensor(name, storage.Type, tensor.Shape, file, start + (tensor.Offset * width), (long)count * width)
            : throw new PickleException(
                file.Path,
                $"'{name}' {tensor.Shape.Text()} is a view with the strides {tensor.Strides.Text()}: its values do not lie one after the "
                + "other.",
                "Save it again with .contiguous() on every tensor, or with PEFT, which writes safetensors.");
    }
}
