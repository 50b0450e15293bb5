namespace UnslothMerge.Safetensors;

/// <summary>A tensor in a file, as its header describes it: the dimensions (none for a scalar), the offset of its first element in the
/// file, its bytes when they lie side by side.</summary>
internal sealed record StoredTensor(
    TensorName StoredName, TensorType Type, IReadOnlyList<long> Shape, StoredFile File, long Offset, long Length)
{
    /// <summary>A tensor with a name of its own.</summary>
    public StoredTensor(string name, TensorType type, IReadOnlyList<long> shape, StoredFile file, long offset, long length)
        : this(new TensorName(name), type, shape, file, offset, length)
    {
    }

    /// <summary>The name; each call makes a string.</summary>
    public string Name
    {
        get => StoredName.ToString();
        init => StoredName = new TensorName(value);
    }

    /// <summary>Where the elements lie, if not side by side: dimensions, whose row-major order is the tensor's; steps are in
    /// elements.</summary>
    internal IReadOnlyList<(long Count, long Step)>? Strides { get; init; }

    /// <summary>Offsets tell tensors apart, but for empty ones, which may all lie at one; hashing names and paths would be slow for large
    /// checkpoints.</summary>
    public override int GetHashCode() => Length == 0 ? StoredName.GetHashCode() : HashCode.Combine(Offset, Length);
}

/// <summary>A file at the time its header was read; it must not have changed when its tensors are read.</summary>
internal sealed record StoredFile(string Path, FileStatus Status)
{
    /// <summary>Reads it while it does not lie on this disk; null for a file that always did.</summary>
    public RemoteFile? Remote { get; private init; }

    public long Length => Status.Length;

    public string Name { get; } = System.IO.Path.GetFileName(Path);

    public bool IsSafetensors => Path.EndsWith(".safetensors", StringComparison.Ordinal);

    /// <summary>The file as it is now.</summary>
    public static StoredFile Of(string path) =>
        new(System.IO.Path.GetFullPath(path), FileStatus.Of(path) ?? throw new FileNotFoundException($"Could not find file '{path}'."));

    /// <summary>A file that is on the Hub yet.</summary>
    public static StoredFile Of(RemoteFile remote) =>
        new(remote.Path, new FileStatus(FileKind.Regular, remote.Length, default, default, 0, 0)) { Remote = remote };

    /// <summary>True if nobody wrote to the file, replaced it, or took it away since.</summary>
    public bool IsUnchanged => Remote?.IsUnchanged ?? FileStatus.Of(Path) == Status;
}
