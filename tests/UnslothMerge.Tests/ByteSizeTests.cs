namespace UnslothMerge.Tests;

public sealed class ByteSizeTests
{
    [Theory]
    [InlineData("5GB", 5_000_000_000)]
    [InlineData("5gb", 5_000_000_000)]
    [InlineData("5 GB", 5_000_000_000)]
    [InlineData(" 5G ", 5_000_000_000)]
    [InlineData("5GiB", 5_368_709_120)]
    [InlineData("512 MiB", 536_870_912)]
    [InlineData("1.5GB", 1_500_000_000)]
    [InlineData("0.5kB", 500)]
    [InlineData("1KiB", 1024)]
    [InlineData("2TB", 2_000_000_000_000)]
    [InlineData("1PB", 1_000_000_000_000_000)]
    [InlineData("1048576", 1_048_576)]
    [InlineData("7B", 7)]
    [InlineData("0", 0)]
    [InlineData("9223372036854775807", long.MaxValue)]
    public void Sizes_are_read(string text, long bytes)
    {
        Assert.True(ByteSize.TryParse(text, out var read));
        Assert.Equal(bytes, read);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("GB")]
    [InlineData("-5GB")]
    [InlineData("5,5GB")]
    [InlineData("5 G B")]
    [InlineData("1.2.3MB")]
    [InlineData("5GBs")]
    [InlineData("1e3")]
    [InlineData("9223372036854775808")]
    [InlineData("9223373TB")]
    [InlineData("99999999999999999999999999999999999GB")]
    public void What_is_no_size_is_refused(string? text) => Assert.False(ByteSize.TryParse(text, out _));

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(999, "999 B")]
    [InlineData(1000, "1.00 kB")]
    [InlineData(9_994, "9.99 kB")]
    [InlineData(9_995, "10.0 kB")]
    [InlineData(99_950, "100 kB")]
    [InlineData(999_499, "999 kB")]
    [InlineData(999_500, "1.00 MB")]
    [InlineData(2_471_000_000, "2.47 GB")]
    [InlineData(long.MaxValue, "9223 PB")]
    public void Sizes_are_printed_with_three_digits(long bytes, string text) => Assert.Equal(text, ByteSize.Text(bytes));

    [Theory]
    [InlineData(11_010_000, 11_020_000, "11.01 MB", "11.02 MB")]
    [InlineData(11_000_000, 12_000_000, "11.0 MB", "12.0 MB")]
    [InlineData(1_000_000_001, 1_000_000_000, "1.000000001 GB", "1.000000000 GB")]
    [InlineData(5_000, 5_000, "5.00 kB", "5.00 kB")]
    [InlineData(long.MaxValue, long.MaxValue - 1, "9223.372036854775807 PB", "9223.372036854775806 PB")]
    public void Sizes_that_are_compared_look_different(long one, long other, string text, string otherText) =>
        Assert.Equal((text, otherText), ByteSize.Distinct(one, other));

    [Fact]
    public void What_is_printed_can_be_read() => Gen.OneOf(Gen.Long[0, 5000], Gen.Long[0, long.MaxValue / 2]).Sample(bytes =>
    {
        Assert.True(ByteSize.TryParse(ByteSize.Text(bytes), out var read));
        Assert.InRange(read, bytes * 0.99, bytes * 1.01);
    });
}
