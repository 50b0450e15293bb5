using System.Security.Cryptography;

namespace UnslothMerge.Hub.Publishing;

/// <summary>A file on its way to a repository: on the disk, in memory, or there already.</summary>
internal sealed class UploadFile
{
    private const int BufferBytes = 1024 * 1024;

    private readonly byte[]? _content;
    private readonly IDisk _disk = SystemDisk.Instance;
    private readonly string? _path;
    private readonly FileStatus? _status;

    private UploadFile(string name, byte[]? content, string? path, IDisk? disk = null)
    {
        _disk = disk ?? _disk;
        Name = name;
        _content = content;
        _path = path;
        _status = path is null ? null : FileStatus.Of(path);
        Size = content?.LongLength ?? _status?.Length ?? throw new MergeException(MergeError.InvalidModel, $"'{path}' is not there.", path,
            "Check the files of the model.");
    }

    private UploadFile(string name, long size, string sha256) => (Name, Size, Sha256) = (name, size, sha256);

    /// <summary>The path in the repository.</summary>
    public string Name { get; }

    /// <summary>The length in bytes.</summary>
    public long Size { get; }

    /// <summary>True if it is not as it is on the disk, but as it is published.</summary>
    public bool IsInMemory => _content is not null;

    /// <summary>The SHA-256, once it has been asked for.</summary>
    public string? Sha256 { get; private set; }

    /// <summary>A file on the disk.</summary>
    public static UploadFile At(string path, string name, IDisk? disk = null) => new(name, null, path, disk);

    /// <summary>A file that was sent by another worker: only its commit is missing.</summary>
    public static UploadFile There(string name, long size, string sha256) => new(name, size, sha256);

    /// <summary>A file in memory.</summary>
    public static UploadFile Of(byte[] content, string name) => new(name, content, null);

    /// <summary>Git's hash of the content.</summary>
    // The hash that Git has, not one to trust.
#pragma warning disable CA5350
    public string GitHash() =>
        Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {Size}\0"), .. ReadAll()]));
#pragma warning restore CA5350

    /// <summary>The whole content, of a file that is small.</summary>
    public byte[] ReadAll()
    {
        if (_content is not null)
        {
            return _content;
        }

        var bytes = new byte[Size];
        Read(0, bytes);
        return bytes;
    }

    /// <summary>The first bytes, at most so many.</summary>
    public byte[] Start(int length)
    {
        var bytes = new byte[Math.Min(length, Size)];
        Read(0, bytes);
        return bytes;
    }

    /// <summary>Computes the SHA-256.</summary>
    public void Hash(Action<int> done, CancellationToken cancellation)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Read(0, Size, bytes =>
        {
            cancellation.ThrowIfCancellationRequested();
            hash.AppendData(bytes);
            done(bytes.Length);
        });
        Sha256 = Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Reads a part, a piece at a time.</summary>
    public void Read(long offset, long length, PieceAction piece)
    {
        if (_content is not null)
        {
            piece(_content.AsSpan((int)offset, (int)length));
            return;
        }

        var buffer = ArrayPool<byte>.Shared.Rent((int)Math.Min(BufferBytes, length));
        try
        {
            using var file = Opened();
            for (var end = offset + length; offset < end;)
            {
                var bytes = buffer.AsSpan(0, (int)Math.Min(buffer.Length, end - offset));
                ReadFrom(file, bytes, offset);
                piece(bytes);
                offset += bytes.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Refuses a file that is not what it was when it was listed.</summary>
    public void RequireUnchanged()
    {
        if (_path is not null && FileStatus.Of(_path) != _status)
        {
            throw Changed("was changed while it was published", null);
        }
    }

    private void Read(long offset, Span<byte> bytes)
    {
        if (_content is not null)
        {
            _content.AsSpan((int)offset, bytes.Length).CopyTo(bytes);
            return;
        }

        using var file = Opened();
        ReadFrom(file, bytes, offset);
    }

    private SafeFileHandle Opened()
    {
        try
        {
            return _disk.Open(_path!);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Changed($"cannot be read: {e.Message}", e);
        }
    }

    // What fails here is the disk, not the network.
    private void ReadFrom(SafeFileHandle file, Span<byte> bytes, long offset)
    {
        try
        {
            if (!file.ReadFully(bytes, offset, _disk))
            {
                throw Changed("became shorter while it was published", null);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Changed($"cannot be read: {e.Message}", e);
        }
    }

    private MergeException Changed(string what, Exception? inner) => new(MergeError.FileChanged, $"'{_path}' {what}.", _path,
        "Let nothing write to the model while it is published, and repeat the command.", inner);
}

/// <summary>Takes a piece of a file.</summary>
internal delegate void PieceAction(ReadOnlySpan<byte> piece);
