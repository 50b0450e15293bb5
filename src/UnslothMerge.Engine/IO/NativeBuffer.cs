namespace UnslothMerge.IO;

/// <summary>Memory outside the garbage collector's heap, which tiles must neither grow nor wait for: allocated once per worker or target,
/// released at once.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    private void* _pointer;

    /// <summary>The content is undefined. The alignment is a power of two.</summary>
    public NativeBuffer(long length, int alignment = CacheLine.Size)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length > int.MaxValue)
        {
            throw new MergeException(MergeError.DoesNotFit,
                $"The merge needs {ByteSize.Text(length)} in one piece, as for a factor of a very high rank; at most "
                + $"{ByteSize.Text(int.MaxValue)} can be had.", "MaximumMemoryUsage", "Check the ranks of the adapters.");
        }

        Length = (int)length;
        _pointer = NativeMemory.AlignedAlloc((nuint)Math.Max(length, 1), (nuint)alignment);
    }

    ~NativeBuffer() => Free();

    public int Length { get; }

    public Span<byte> Bytes => new(Pointer, Length);

    public Span<float> Floats => new(Pointer, Length / sizeof(float));

    private void* Pointer => _pointer is not null ? _pointer : throw new ObjectDisposedException(nameof(NativeBuffer));

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_pointer);
        _pointer = null;
    }
}
