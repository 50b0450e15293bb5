using CsCheck;
using UnslothMerge.Execution;
using Xunit;

namespace UnslothMerge.Tests.Execution;

public sealed class ShardFileTests
{
    // Long enough to cross the blocks in which files are written, some too long for a spare buffer.
    private const int SpareBytes = 100_000;

    [Fact]
    public void Whatever_is_left_to_others_is_written() => Gen.Select(Gen.Int[1, 120_000].Array[1, 40], Gen.Int[0, 3], Gen.Int[1, 6]).Sample(
        (lengths, spares, threads) =>
        {
            var path = Path.GetTempFileName();
            try
            {
                var pieces = new List<(long At, byte[] Bytes)>();
                foreach (var length in lengths)
                {
                    var bytes = new byte[length];
                    new Random(pieces.Count).NextBytes(bytes);
                    pieces.Add((pieces.Sum(p => (long)p.Bytes.Length), bytes));
                }

                using (var handle = File.OpenHandle(path, FileMode.Create, FileAccess.Write))
                using (var buffers = new SpareBuffers(spares, SpareBytes))
                {
                    var file = new ShardFile(handle, buffers);
                    Parallel.ForEach(pieces, new ParallelOptions { MaxDegreeOfParallelism = threads }, piece => file.Write(piece.At, piece.Bytes));
                }

                Assert.True(pieces.SelectMany(p => p.Bytes).SequenceEqual(File.ReadAllBytes(path)));
            }
            finally
            {
                File.Delete(path);
            }
        },
        iter: 50);

    [Fact]
    public void A_write_that_fails_is_told()
    {
        var path = Path.GetTempFileName();
        var handle = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        using var buffers = new SpareBuffers(1, SpareBytes);
        var file = new ShardFile(handle, buffers);
        handle.Dispose();

        Assert.Throws<ObjectDisposedException>(() => file.Write(0, [1]));
        File.Delete(path);
    }
}
