namespace UnslothMerge.Tests.Execution;

public sealed class ShardWriterTests : FileTests
{
    // Long enough to cross the blocks in which files are written, some too long for a spare buffer.
    private const int SpareBytes = 100_000;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Whatever_is_left_to_others_or_to_the_disk_is_written(bool toDisk)
    {
        Assert.SkipWhen(toDisk && !HasDirectWrites(), "This file system has no direct writes.");
        var length = Gen.Int[1, toDisk ? 700_000 : 120_000];
        Gen.Select(length.Array[1, toDisk ? 12 : 40], Gen.Int[0, 10_000], Gen.Int[0, 3], Gen.Int[1, 6]).Sample(
            (lengths, start, spares, threads) =>
            {
                using var directory = new TemporaryDirectory();
                var expected = new byte[start + lengths.Sum()];
                new Random(lengths[0]).NextBytes(expected.AsSpan(start));
                using (var handle = File.OpenHandle(directory["shard"], FileMode.Create, FileAccess.Write))
                using (var buffers = toDisk ? new PieceBuffers(5, 256 * 1024) : new PieceBuffers(spares, SpareBytes))
                using (var direct = toDisk ? DirectWrites.Prepare(buffers) : null)
                using (var file = new ShardWriter(SystemDisk.Instance, handle, buffers, direct))
                {
                    RandomAccess.SetLength(handle, expected.Length);
                    Parallel.For(0, lengths.Length, new ParallelOptions { MaxDegreeOfParallelism = threads }, i =>
                    {
                        var at = start + lengths.Take(i).Sum();
                        file.Write(at, expected.AsSpan(at, lengths[i]));
                    });
                    direct?.Wait();
                }

                Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(directory["shard"])));
            },
            iter: 50);
    }

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
        var handle = File.OpenHandle(Temp["shard"], FileMode.Create, FileAccess.Write);
        using var buffers = new PieceBuffers(1, SpareBytes);
        using var file = new ShardWriter(SystemDisk.Instance, handle, buffers, null);
        handle.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Write(0, [1]));
    }

    private bool HasDirectWrites()
    {
        using var handle = File.OpenHandle(Temp["probe"], FileMode.Create, FileAccess.Write);
        using var file = DirectFile.Open(handle);
        return file is not null && DirectWrites.BuffersOf(256 * 1024) > 0;
    }
}
