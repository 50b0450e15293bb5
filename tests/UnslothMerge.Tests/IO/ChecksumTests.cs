namespace UnslothMerge.Tests.IO;

public sealed class ChecksumTests : FileTests
{
    [Fact]
    public void Pieces_in_any_order_give_what_the_file_gives() =>
        Gen.Select(Gen.Byte.Array[0, 5000], Gen.Int[1, 700], Gen.Int[0, 99], Gen.Byte.Array[0, 40]).Sample((bytes, piece, seed, tail) =>
        {
            var checksum = new Checksum(bytes.Length);
            var starts = Enumerable.Range(0, (bytes.Length + piece - 1) / piece).Select(i => i * piece).ToArray();
            new Random(seed).Shuffle(starts);
            Parallel.ForEach(starts, at => checksum.Add(at, bytes.AsSpan(at, Math.Min(piece, bytes.Length - at))));
            return checksum.Value == Of(bytes) && checksum.With(tail) == Of([.. bytes, .. tail]);
        }, iter: 200);

    [Fact]
    public void What_is_added_twice_is_taken_away()
    {
        var checksum = new Checksum(100);
        checksum.Add(0, "header"u8);
        checksum.Add(7, "data"u8);
        checksum.Add(0, "header"u8);
        checksum.Add(0, "HEADER"u8);
        var file = new byte[100];
        "HEADER\0data"u8.CopyTo(file);
        Assert.Equal(Of(file), checksum.Value);
    }

    // The check value of CRC-64/ECMA-182.
    [Fact]
    public void It_is_the_published_one() => Assert.Equal(0x6C40DF5F0B497347UL, Of("123456789"u8.ToArray()));

    private ulong Of(byte[] bytes)
    {
        var path = Temp[Guid.NewGuid().ToString()];
        File.WriteAllBytes(path, bytes);
        return Checksum.Of(path, CancellationToken.None);
    }
}
