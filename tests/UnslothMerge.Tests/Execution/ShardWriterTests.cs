namespace UnslothMerge.Tests.Execution;

public sealed class ShardWriterTests
{
    // Long enough to cross the blocks in which files are written, some too long for a spare buffer.
    private const int SpareBytes = 100_000;

    [Fact]
    public void Whatever_is_left_to_others_is_written() =>
        Gen.Select(Gen.Int[1, 120_000].Array[1, 40], Gen.Int[0, 3], Gen.Int[1, 6]).Sample(
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
                using (var buffers = new PieceBuffers(spares, SpareBytes))
                using (var file = new ShardWriter(handle, buffers, null))
                {
                    var options = new ParallelOptions { MaxDegreeOfParallelism = threads };
                    Parallel.ForEach(pieces, options, piece => file.Write(piece.At, piece.Bytes));
                }

                Assert.True(pieces.SelectMany(p => p.Bytes).SequenceEqual(File.ReadAllBytes(path)));
            }
            finally
            {
                File.Delete(path);
            }
        },
        iter: 50);

    // On a file system without direct writes, all of it goes the other way.
    [Fact]
    public void Whatever_is_left_to_the_disk_is_written() =>
        Gen.Select(Gen.Int[1, 700_000].Array[1, 12], Gen.Int[0, 10_000], Gen.Int[1, 4]).Sample(
        (lengths, start, threads) =>
        {
            using var directory = new TemporaryDirectory();
            var path = Path.Combine(directory.Path, "shard");
            var expected = new byte[start + lengths.Sum()];
            new Random(lengths[0]).NextBytes(expected.AsSpan(start));
            using (var handle = File.OpenHandle(path, FileMode.Create, FileAccess.Write))
            using (var buffers = new PieceBuffers(5, 256 * 1024))
            using (var direct = DirectWrites.Prepare(buffers))
            using (var file = new ShardWriter(handle, buffers, direct))
            {
                RandomAccess.SetLength(handle, expected.Length);
                var options = new ParallelOptions { MaxDegreeOfParallelism = threads };
                Parallel.For(0, lengths.Length, options, i =>
                {
                    var at = start + lengths.Take(i).Sum();
                    file.Write(at, expected.AsSpan(at, lengths[i]));
                });
                direct?.Wait();
            }

            Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(path)));
        },
        iter: 50);

    // Numbers of errno.h. What was refused or left is written as usual; a page cache would take what the disk cannot.
    [Theory]
    [InlineData(-5, true)]
    [InlineData(-28, true)]
    [InlineData(-22, false)]
    [InlineData(-11, false)]
    [InlineData(0, false)]
    [InlineData(4096, false)]
    public void What_the_disk_cannot_write_is_an_error(long written, bool isFailure) =>
        Assert.Equal(isFailure, Record.Exception(() => LinuxAio.ThrowIfFailed(written)) is IOException);

    [Fact]
    public void A_write_that_fails_is_an_error()
    {
        var path = Path.GetTempFileName();
        var handle = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        using var buffers = new PieceBuffers(1, SpareBytes);
        using var file = new ShardWriter(handle, buffers, null);
        handle.Dispose();

        Assert.Throws<ObjectDisposedException>(() => file.Write(0, [1]));
        File.Delete(path);
    }
}
