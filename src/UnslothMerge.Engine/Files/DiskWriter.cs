using System.Buffers;

namespace UnslothMerge.Files;

/// <summary>Writes a file from its beginning, a buffer at a time: JSON of any length takes the memory of one.</summary>
internal sealed class DiskWriter(IDisk disk, SafeFileHandle file) : IBufferWriter<byte>
{
    private byte[] _buffer = new byte[64 * 1024];
    private long _at;

    public void Advance(int count)
    {
        if (count > 0)
        {
            disk.Write(file, _buffer.AsSpan(0, count), _at);
            _at += count;
        }
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        if (sizeHint > _buffer.Length)
        {
            _buffer = new byte[sizeHint];
        }

        return _buffer;
    }

    public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;
}
