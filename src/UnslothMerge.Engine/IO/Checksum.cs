using System.IO.Hashing;

namespace UnslothMerge.IO;

/// <summary>
/// The CRC-64 (ECMA-182) of a file that is written in pieces, in any order and by any thread, each byte once. A CRC is linear: it is the
/// sum of each piece's own, multiplied by as many powers of x as bytes follow. A cryptographic hash needs the bytes in order, and so a
/// second pass over what was written.
/// </summary>
internal sealed class Checksum(long length)
{
    private const ulong Polynomial = 0x42F0E1EBA9EA3693;
    private const int ReadBytes = 1024 * 1024;

    // x to the power of 8, 16, 32, …: each is the square of the one before.
    private static readonly ulong[] Shifts = Squares();

    private readonly Lock _gate = new();
    private ulong _sum;

    /// <summary>That of all bytes that were added; the others count as zeros.</summary>
    public ulong Value
    {
        get
        {
            lock (_gate)
            {
                return _sum;
            }
        }
    }

    /// <summary>That of a whole file.</summary>
    public static ulong Of(string path, CancellationToken cancellation) => Of(path, [(0, long.MaxValue)], cancellation);

    /// <summary>That of some ranges of a file; the others count as zeros.</summary>
    public static ulong Of(string path, IEnumerable<(long Start, long Length)> ranges, CancellationToken cancellation)
    {
        using var file = Files.RegularFile.Open(path);
        var all = new Checksum(RandomAccess.GetLength(file));
        var buffer = ArrayPool<byte>.Shared.Rent(ReadBytes);
        try
        {
            foreach (var (start, length) in ranges)
            {
                var (hash, at) = (new Crc64(), start);
                Span<byte> Part() => buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - (at - start)));
                while (RandomAccess.Read(file, Part(), at) is > 0 and var read)
                {
                    cancellation.ThrowIfCancellationRequested();
                    hash.Append(buffer.AsSpan(0, read));
                    at += read;
                }

                all.Add(hash.GetCurrentHashAsUInt64(), at);
            }

            return all.Value;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Adds bytes at an offset. The same bytes, added a second time, are taken away.</summary>
    public void Add(long at, ReadOnlySpan<byte> bytes) => Add(Crc64.HashToUInt64(bytes), at + bytes.Length);

    /// <summary>That of the file with more bytes at its end.</summary>
    public ulong With(ReadOnlySpan<byte> tail) => Shift(Value, tail.Length) ^ Crc64.HashToUInt64(tail);

    private void Add(ulong checksum, long end)
    {
        var part = Shift(checksum, length - end);
        lock (_gate)
        {
            _sum ^= part;
        }
    }

    private static ulong Shift(ulong checksum, long bytes)
    {
        for (var i = 0; bytes > 0; i++, bytes >>= 1)
        {
            checksum = (bytes & 1) == 0 ? checksum : Multiply(checksum, Shifts[i]);
        }

        return checksum;
    }

    // Of polynomials over GF(2), modulo the CRC's; the highest bit is the highest power.
    private static ulong Multiply(ulong a, ulong b)
    {
        var product = 0UL;
        for (var bit = 63; bit >= 0; bit--)
        {
            product = (product << 1) ^ ((product >> 63) * Polynomial) ^ (((b >> bit) & 1) * a);
        }

        return product;
    }

    private static ulong[] Squares()
    {
        var shifts = new ulong[63];
        shifts[0] = 1 << 8;
        for (var i = 1; i < shifts.Length; i++)
        {
            shifts[i] = Multiply(shifts[i - 1], shifts[i - 1]);
        }

        return shifts;
    }
}
