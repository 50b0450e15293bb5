namespace UnslothMerge.IO;

/// <summary>Memory outside the garbage collector's heap: taken once per worker or target, given back at once. Tiles must neither grow the
/// heap nor wait for a collection.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    private void* _pointer;

    /// <summary>Takes memory; its content is undefined. The alignment is a power of two.</summary>
    public NativeBuffer(long length, int alignment = CacheLine.Size)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, int.MaxValue);
        Length = (int)length;
        _pointer = NativeMemory.AlignedAlloc((nuint)Math.Max(length, 1), (nuint)alignment);
    }

    /// <summary>Gives the memory back if nobody did.</summary>
    ~NativeBuffer() => Free();

    /// <summary>The length in bytes.</summary>
    public int Length { get; }

    /// <summary>The memory as bytes.</summary>
    public Span<byte> Bytes => new(Pointer, Length);

    /// <summary>The memory as fp32 values.</summary>
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
