namespace UnslothMerge.Safetensors;

/// <summary>A tensor's name in UTF-8, beside the other names of its file: a model may have a million of them, and a string takes more than
/// twice as much.</summary>
internal readonly struct TensorName : IEquatable<TensorName>
{
    private readonly byte[] _names;
    private readonly int _start;
    private readonly int _length;

    internal TensorName(byte[] names, int start, int length) => (_names, _start, _length) = (names, start, length);

    /// <summary>A name by itself.</summary>
    public TensorName(string name)
        : this(Encoding.UTF8.GetBytes(name))
    {
    }

    private TensorName(byte[] name)
        : this(name, 0, name.Length)
    {
    }

    private ReadOnlySpan<byte> Bytes => _names.AsSpan(_start, _length);

    public bool Equals(TensorName other) => Bytes.SequenceEqual(other.Bytes);

    public override bool Equals(object? obj) => obj is TensorName other && Equals(other);

    public override int GetHashCode()
    {
        var hash = default(HashCode);
        hash.AddBytes(Bytes);
        return hash.ToHashCode();
    }

    public override string ToString() => Encoding.UTF8.GetString(Bytes);
}

/// <summary>Takes the names of a file, some thousands in a block.</summary>
/// <param name="bytes">The bytes of all names, at most.</param>
internal sealed class NameBlocks(int bytes)
{
    private const int BlockBytes = 64 * 1024;

    private byte[] _block = [];
    private int _used;

    public TensorName Add(string name)
    {
        var length = Encoding.UTF8.GetByteCount(name);
        if (length > _block.Length - _used)
        {
            (_block, _used) = (new byte[Math.Max(length, Math.Min(bytes, BlockBytes))], 0);
        }

        _used += Encoding.UTF8.GetBytes(name, _block.AsSpan(_used));
        return new TensorName(_block, _used - length, length);
    }
}
