namespace UnslothMerge.Formats.Quantized;

/// <summary>How the codes of a weight are packed in its stored tensor.</summary>
internal abstract class CodeLayout
{
    /// <summary>One byte a code, row by row.</summary>
    public static CodeLayout Bytes { get; } = new Rows(8);

    /// <summary>Codes packed without gaps, the first one lowest, in rows that are padded to whole bytes or words.</summary>
    public static CodeLayout Packed(int bits, long rowBytes) => new Rows(bits) { PackedRowBytes = checked((int)rowBytes) };

    /// <summary>4-bit codes of two rows in a row of bytes, the first row in the low nibbles.</summary>
    public static CodeLayout RowPairs { get; } = new Pairs();

    /// <summary>Pieces begin at multiples of this many rows.</summary>
    public virtual int RowQuantum => 1;

    /// <summary>True if scales are stored transposed: a row of them for each column block.</summary>
    public virtual bool IsTransposed => false;

    /// <summary>The bytes that a writer holds.</summary>
    public virtual long ResidentBytes => 0;

    public abstract CodeWriter Open(MatrixView view, IOutput output);

    private sealed class Pairs : CodeLayout
    {
        public override int RowQuantum => 2;

        public override CodeWriter Open(MatrixView view, IOutput output) => new Writer(view, output);

        private sealed class Writer(MatrixView view, IOutput output) : CodeWriter
        {
            public override void Write(long row, int rows, ReadOnlySpan<byte> codes)
            {
                var packed = new byte[rows / 2 * view.Columns];
                for (var i = 0; i < packed.Length; i++)
                {
                    var first = (i / view.Columns * 2 * view.Columns) + (i % view.Columns);
                    packed[i] = (byte)((codes[first] & 15) | (codes[first + view.Columns] << 4));
                }

                output.Write(0, row / 2 * view.Columns, packed);
            }

            public override void Dispose()
            {
            }
        }
    }

    private sealed class Rows(int bits) : CodeLayout
    {
        public int PackedRowBytes { get; init; }

        public override CodeWriter Open(MatrixView view, IOutput output) =>
            new Writer(bits, PackedRowBytes > 0 ? PackedRowBytes : view.Columns, view, output);

        private sealed class Writer(int bits, int rowBytes, MatrixView view, IOutput output) : CodeWriter
        {
            public override void Write(long row, int rows, ReadOnlySpan<byte> codes)
            {
                if (rowBytes == view.Columns && bits == 8)
                {
                    output.Write(0, row * rowBytes, codes);
                    return;
                }

                var packed = ArrayPool<byte>.Shared.Rent(rows * rowBytes);
                for (var r = 0; r < rows; r++)
                {
                    Pack(codes.Slice(r * view.Columns, view.Columns), packed.AsSpan(r * rowBytes, rowBytes));
                }

                output.Write(0, row * rowBytes, packed.AsSpan(0, rows * rowBytes));
                ArrayPool<byte>.Shared.Return(packed);
            }

            public override void Dispose()
            {
            }

            private void Pack(ReadOnlySpan<byte> codes, Span<byte> packed)
            {
                var (window, have, end) = (0u, 0, 0);
                foreach (var code in codes)
                {
                    window |= (uint)code << have;
                    for (have += bits; have >= 8; have -= 8, window >>= 8)
                    {
                        packed[end++] = (byte)window;
                    }
                }

                packed[end..].Clear();
                if (have > 0)
                {
                    packed[end] = (byte)window;
                }
            }
        }
    }
}

/// <summary>Writes the codes of one tensor during a run; used by several workers at once, for different rows.</summary>
internal abstract class CodeWriter : IDisposable
{
    public abstract void Write(long row, int rows, ReadOnlySpan<byte> codes);

    /// <summary>Writes what needs all rows.</summary>
    public virtual void Finish()
    {
    }

    public abstract void Dispose();
}
