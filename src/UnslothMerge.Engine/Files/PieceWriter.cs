using System.Buffers;

namespace UnslothMerge.Files;

/// <summary>Hands on what is written from the beginning, a buffer at a time and where it lies: JSON of any length takes the memory of
/// one.</summary>
internal sealed class PieceWriter : IBufferWriter<byte>
{
    private readonly Action<ReadOnlySpan<byte>, long> _take;
    private byte[] _buffer = new byte[64 * 1024];
    private int _filled;
    private long _at;

    private PieceWriter(Action<ReadOnlySpan<byte>, long> take) => _take = take;

    /// <summary>Writes, and hands on what was written.</summary>
    public static void Write(Action<IBufferWriter<byte>> write, Action<ReadOnlySpan<byte>, long> take)
    {
        var writer = new PieceWriter(take);
        write(writer);
        writer.Take();
    }

    public void Advance(int count) => _filled += count;

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        if (Math.Max(sizeHint, 1) > _buffer.Length - _filled)
        {
            Take();
            _buffer = sizeHint > _buffer.Length ? new byte[sizeHint] : _buffer;
        }

        return _buffer.AsMemory(_filled);
    }

    public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    private void Take()
    {
        if (_filled > 0)
        {
            _take(_buffer.AsSpan(0, _filled), _at);
            _at += _filled;
            _filled = 0;
        }
    }
}
