using System.Collections.Concurrent;
using System.Security.Cryptography;

namespace UnslothMerge.IO;

/// <summary>The files a run reads: opened once, read only, and refused if they have changed since the plan was made. Reads are positional,
/// so that workers share only the handles.</summary>
internal sealed class InputFiles(long sharedBytes = InputFiles.SharedBytes, IDisk? disk = null) : IDisposable
{
    /// <summary>The largest tensor that is worth holding whole.</summary>
    public const long SharedBytes = 256L * 1024 * 1024;

    private readonly IDisk _disk = disk ?? SystemDisk.Instance;
    private readonly ConcurrentDictionary<string, Lazy<SafeFileHandle>> _handles = new(StringComparer.Ordinal);

    public SharedBuffers Shared { get; } = new(sharedBytes);

    /// <summary>The open file, refused if it has changed since the plan was made.</summary>
    public SafeFileHandle Open(StoredFile file) =>
        _handles.GetOrAdd(file.Path, _ => new Lazy<SafeFileHandle>(() => OpenUnchanged(file, _disk))).Value;

    /// <summary>Reads a part of a tensor, from a byte counted from the tensor's first.</summary>
    public void Read(StoredTensor tensor, long start, Span<byte> destination)
    {
        if (start < 0 || start + destination.Length > tensor.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(start), start, $"{tensor.Name} has {tensor.Length} bytes.");
        }

        if (tensor.File.Remote is { IsDownloaded: false } remote)
        {
            remote.Read(tensor.Offset + start, destination);
            return;
        }

        var file = Open(tensor.File);
        bool isWhole;
        try
        {
            isWhole = tensor.Strides is null
                ? file.ReadFully(destination, tensor.Offset + start, _disk)
                : StridedTensor.Read(_disk, file, tensor, start, destination);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw FileReads.Failed($"{tensor.Name}' in '{tensor.File.Path}", tensor.File.Path, e);
        }

        if (!isWhole)
        {
            throw Changed(tensor.File, "it became shorter while it was read");
        }
    }

    /// <summary>Reads a whole, small tensor.</summary>
    public byte[] ReadAll(StoredTensor tensor)
    {
        var bytes = new byte[tensor.Length];
        Read(tensor, 0, bytes);
        return bytes;
    }

    /// <summary>Reads a whole, small tensor as numbers of the dtype that it is stored in.</summary>
    public T[] ReadAll<T>(StoredTensor tensor)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(ReadAll(tensor)).ToArray();

    public void Dispose()
    {
        Shared.Dispose();
        foreach (var handle in _handles.Values.Where(h => h.IsValueCreated))
        {
            handle.Value.Dispose();
        }
    }

    private static SafeFileHandle OpenUnchanged(StoredFile file, IDisk disk)
    {
        SafeFileHandle handle;
        try
        {
            handle = disk.Open(file.Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MergeException(MergeError.FileChanged, $"'{file.Path}' can no longer be opened: {e.Message}", file.Path, inner: e);
        }

        if (!file.IsUnchanged)
        {
            handle.Dispose();
            throw Changed(file, "it was changed after the merge was planned");
        }

        return handle;
    }

    /// <summary>Refuses a merge whose inputs were written to, replaced or removed while it read them: what it wrote may be a mixture.
    /// </summary>
    public static void RequireUnchanged(IEnumerable<StoredFile> files)
    {
        if (files.FirstOrDefault(f => !f.IsUnchanged) is { } changed)
        {
            throw Changed(changed, "it was changed after the merge was planned");
        }
    }

    /// <summary>The SHA-256 of a file, in hexadecimal.</summary>
    public static string HashOf(StoredFile file, CancellationToken cancellation = default)
    {
        using var handle = OpenUnchanged(file, SystemDisk.Instance);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1024 * 1024];
        for (long at = 0; RandomAccess.Read(handle, buffer, at) is var read and > 0; at += read)
        {
            cancellation.ThrowIfCancellationRequested();
            hash.AppendData(buffer, 0, read);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static MergeException Changed(StoredFile file, string how) =>
        new(MergeError.FileChanged, $"'{file.Path}' has changed: {how}.", file.Path,
            "Run Merge-LoraModel again, and do not change the model during the merge.");
}
