namespace UnslothMerge.Safetensors;

/// <summary>A tensor in a file: where its bytes are, and what they are. Holds no bytes and no open file.</summary>
/// <param name="Name">The name in the header.</param>
/// <param name="Type">The stored dtype.</param>
/// <param name="Shape">The dimensions; empty for a scalar.</param>
/// <param name="File">The file that holds it.</param>
/// <param name="Offset">The position of its first byte in the file.</param>
/// <param name="Length">Its length in bytes.</param>
public sealed record StoredTensor(string Name, TensorType Type, IReadOnlyList<long> Shape, StoredFile File, long Offset, long Length)
{
    /// <summary>Where it lies tells tensors apart; hashing names and paths would cost large checkpoints dear.</summary>
    public override int GetHashCode() => HashCode.Combine(Offset, Length);
}

/// <summary>A file as it was when its header was read; it is checked again when its tensors are.</summary>
/// <param name="Path">The full path.</param>
/// <param name="Length">The length in bytes.</param>
/// <param name="Modified">The time of its last change (UTC).</param>
public sealed record StoredFile(string Path, long Length, DateTime Modified)
{
    /// <summary>The file's name without its directory.</summary>
    public string Name => System.IO.Path.GetFileName(Path);
}
