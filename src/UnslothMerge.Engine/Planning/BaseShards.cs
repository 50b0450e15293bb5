using System.Security.Cryptography;

namespace UnslothMerge.Planning;

/// <summary>The files of a base as shards of the merged model: a shard with the header of one of them can share its blocks.</summary>
internal static class BaseShards
{
    private const int ReadBytes = 1024 * 1024;

    /// <summary>Splits tensors as the base does: what each of its files holds, and the indices of the tensors that come from there. A
    /// tensor that comes from none follows the tensor before it.</summary>
    public static IReadOnlyList<(IReadOnlyList<StoredTensor> Stored, IReadOnlyList<int> Indices)> Split(
        IReadOnlyList<WriteTensor> tensors, IReadOnlyList<StoredTensor> stored)
    {
        var files = stored.GroupBy(t => t.File).ToDictionary(g => g.Key, g => (Stored: g.ToList(), Indices: new List<int>()));
        var current = files[stored[0].File].Indices;
        for (var i = 0; i < tensors.Count; i++)
        {
            current = FileOf(tensors[i]) is { } file && files.TryGetValue(file, out var own) ? own.Indices : current;
            current.Add(i);
        }

        return [.. files.Values.Where(f => f.Indices.Count > 0).Select(f => ((IReadOnlyList<StoredTensor>)f.Stored,
            (IReadOnlyList<int>)f.Indices))];
    }

    /// <summary>The layout of a file of the base, if it has exactly these tensors; else null.</summary>
    public static ShardLayout? LayoutOf(IReadOnlyList<StoredTensor> stored, IReadOnlyList<TensorSpec> tensors)
    {
        if (!stored[0].File.IsSafetensors || stored.Count != tensors.Count)
        {
            return null;
        }

        var byName = tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        return stored.All(s => byName.TryGetValue(s.Name, out var t) && t.Type == s.Type && t.Shape.SequenceEqual(s.Shape))
            ? ShardLayout.Of(HeaderOf(stored[0].File, stored.Min(t => t.Offset)), stored) : null;
    }

    /// <summary>The file that begins with a layout's header and has its length, among those that tensors come from; null if none
    /// does.</summary>
    public static StoredFile? WithHeader(ShardLayout layout, IEnumerable<WriteTensor> tensors)
    {
        var file = tensors.Select(FileOf).FirstOrDefault(f => f is { IsSafetensors: true } && f.Length == layout.FixedLength);
        return file is not null && !layout.IsDeferred && HashOf(file, layout.Header.Length).AsSpan().SequenceEqual(layout.Header.Hash)
            ? file : null;
    }

    private static StoredFile? FileOf(WriteTensor tensor) => tensor.Tensor.Source.Inputs is [var first, ..] ? first.File : null;

    private static byte[] HeaderOf(StoredFile file, long length)
    {
        var header = new byte[length];
        Read(file, (bytes, at) => bytes.CopyTo(header.AsSpan((int)at)), length);
        return header;
    }

    private static byte[] HashOf(StoredFile file, long length)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Read(file, (bytes, _) => hash.AppendData(bytes), length);
        return hash.GetHashAndReset();
    }

    private static void Read(StoredFile file, Action<ReadOnlySpan<byte>, long> take, long length)
    {
        var remote = file.Remote is { IsDownloaded: false } there ? there : null;
        using var handle = remote is null ? RegularFile.Open(file.Path) : null;
        var buffer = new byte[Math.Min(length, ReadBytes)];
        for (var at = 0L; at < length; at += buffer.Length)
        {
            var bytes = buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - at));
            remote?.Read(at, bytes);
            if (handle?.ReadFully(bytes, at) == false)
            {
                throw new SafetensorsException(SafetensorsError.InvalidHeaderLength, file.Path, "the file ends inside its header.");
            }

            take(bytes, at);
        }
    }
}
