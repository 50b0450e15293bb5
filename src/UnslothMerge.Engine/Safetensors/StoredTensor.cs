namespace UnslothMerge.Safetensors;

/// <summary>A tensor in a file, as its header describes it.</summary>
/// <param name="Shape">The dimensions; empty for a scalar.</param>
/// <param name="Offset">The offset of its first byte in the file.</param>
/// <param name="Length">Its length in bytes.</param>
internal sealed record StoredTensor(string Name, TensorType Type, IReadOnlyList<long> Shape, StoredFile File, long Offset, long Length)
{
    /// <summary>Offsets tell tensors apart; hashing names and paths would be slow for large checkpoints.</summary>
    public override int GetHashCode() => HashCode.Combine(Offset, Length);
}

/// <summary>A file at the time its header was read; it must not have changed when its tensors are read.</summary>
/// <param name="Path">The full path.</param>
/// <param name="Length">In bytes.</param>
/// <param name="Modified">UTC.</param>
internal sealed record StoredFile(string Path, long Length, DateTime Modified)
{
    public string Name => System.IO.Path.GetFileName(Path);
}
