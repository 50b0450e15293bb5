namespace UnslothMerge.Execution;

/// <summary>A worker's memory for the whole run: as much as the largest piece needs.</summary>
internal sealed class WorkerBuffers(long bytes) : IDisposable
{
    private readonly NativeBuffer _buffer = new(bytes);

    public Span<byte> Copy => _buffer.Bytes[..Math.Min(_buffer.Length, ExecutionPlan.CopyBytes)];

    public Span<byte> Take(long start, long length) => _buffer.Bytes.Slice((int)start, (int)length);

    /// <summary>fp32 values from a byte on.</summary>
    public Span<float> TakeFloats(long start, int count) => MemoryMarshal.Cast<byte, float>(Take(start, (long)count * sizeof(float)));

    public void Dispose() => _buffer.Dispose();
}
