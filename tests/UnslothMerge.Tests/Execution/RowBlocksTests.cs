using CsCheck;
using UnslothMerge.Execution;
using UnslothMerge.Formats;
using Xunit;

namespace UnslothMerge.Tests.Execution;

public sealed class RowBlocksTests
{
    private const int BlockBytes = 64;

    private static readonly Gen<(int Offset, int Rows, int RowBytes, int Quantum, int Threads)> Shapes =
        Gen.Select(Gen.Int[0, 300], Gen.Int[0, 90], Gen.Int[1, BlockBytes], Gen.Int[1, 4], Gen.Int[1, 4]).Where(s => s.Item3 * s.Item4 <= BlockBytes);

    [Fact]
    public void Every_byte_is_written_once_whoever_is_first() => Shapes.Sample(shape =>
    {
        var written = new Recorder(shape.Rows * shape.RowBytes);
        var blocks = new RowBlocks(written, shape.Offset, shape.Rows, shape.RowBytes, shape.Quantum, BlockBytes);
        var pieces = Enumerable.Range(0, blocks.Pieces).ToArray();
        Random.Shared.Shuffle(pieces);
        Parallel.ForEach(pieces, new ParallelOptions { MaxDegreeOfParallelism = shape.Threads }, piece => Write(blocks, piece, shape.RowBytes, shape.Quantum));

        Assert.Equal(Enumerable.Range(0, shape.Rows * shape.RowBytes).Select(Value), written.Bytes);
        Assert.All(written.Times, t => Assert.Equal(1, t));
    });

    [Fact]
    public void In_order_every_block_within_is_written_at_once() => Shapes.Sample(shape =>
    {
        var written = new Recorder(shape.Rows * shape.RowBytes);
        var blocks = new RowBlocks(written, shape.Offset, shape.Rows, shape.RowBytes, shape.Quantum, BlockBytes);
        for (var piece = 0; piece < blocks.Pieces; piece++)
        {
            Assert.Equal(0, blocks.RowsOf(piece).Row % shape.Quantum);
            Write(blocks, piece, shape.RowBytes, shape.Quantum);
        }

        Assert.All(written.Starts.Skip(1), start => Assert.Equal(0, (shape.Offset + start) % BlockBytes));
    });

    private static void Write(RowBlocks blocks, int piece, int rowBytes, int quantum)
    {
        var (row, rows) = blocks.RowsOf(piece);
        var room = rowBytes * quantum;
        var buffer = new byte[room + (rows * rowBytes)];
        for (var i = room; i < buffer.Length; i++)
        {
            buffer[i] = Value((int)(row * rowBytes) + i - room);
        }

        blocks.Write(piece, buffer, room);
    }

    private static byte Value(int index) => (byte)((index * 7) ^ (index >> 8));

    private sealed class Recorder(int length) : IOutput
    {
        private readonly Lock _gate = new();

        public byte[] Bytes { get; } = new byte[length];

        public int[] Times { get; } = new int[length];

        public List<long> Starts { get; } = [];

        public void Write(int output, long start, ReadOnlySpan<byte> bytes)
        {
            lock (_gate)
            {
                Starts.Add(start);
                bytes.CopyTo(Bytes.AsSpan((int)start));
                for (var i = 0; i < bytes.Length; i++)
                {
                    Times[start + i]++;
                }
            }
        }
    }
}
