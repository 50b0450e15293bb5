namespace UnslothMerge.Simd;

/// <summary>The right matrix of a LoRA product, [rank, columns], packed for <see cref="LoraKernel"/>: panels of <see cref="Width"/>
/// columns, each [rank, Width] row-major, one after the other, the last one padded with zeros. The inner loop then reads contiguous memory.
/// The layout is the same for every instruction set.</summary>
/// <remarks>Align the memory to 64 bytes: a vector across two cache lines costs two loads.</remarks>
internal static class LoraPanels
{
    /// <summary>Columns per panel: two registers of 512 bits.</summary>
    public const int Width = 32;

    /// <summary>The length of the packed matrix in floats.</summary>
    public static long Length(int rank, int columns) => ((long)columns + Width - 1) / Width * Width * rank;

    /// <summary>The offset in floats of the panel whose first column is <paramref name="column"/>, a multiple of
    /// <see cref="Width"/>.</summary>
    public static long Offset(int rank, int column)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(column % Width, 0, nameof(column));
        return (long)column * rank;
    }
}
