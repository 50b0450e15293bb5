using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>Scales (or zero points) of a quantized matrix.</summary>
internal sealed record ScaleGrid(StoredTensor Tensor, ScaleBlocks Blocks)
{
    /// <summary>What its numbers are, where its dtype does not tell: MLX has E4M3 in U8.</summary>
    public TensorType Type { get; init; } = Tensor.Type;

    /// <summary>The scales in a row of the grid.</summary>
    public int Columns => Blocks.Columns;

    /// <summary>The row of the grid that a row of the (stacked) matrix uses.</summary>
    public long GridRow(long row) => Blocks.RowOf(row);

    /// <summary>The most rows of the grid that so many rows can use.</summary>
    public int MaxGridRows(int rows) => (int)Math.Min(rows, (rows / Blocks.BlockRows) + 2 + (rows / Blocks.MatrixRows));

    /// <summary>The bytes for <see cref="Read"/>: the scales as fp32, and as stored.</summary>
    public long BytesOf(int rows) => MaxGridRows(rows) * (long)Columns * (sizeof(float) + (Tensor.Type.Bits() / 8));

    /// <summary>Reads the scales of some rows as fp32.</summary>
    public void Read(InputFiles files, long row, int rows, Span<float> scales, Span<byte> stored)
    {
        var first = GridRow(row);
        var count = (int)(GridRow(row + rows - 1) - first + 1) * Columns;
        var width = Tensor.Type.Bits() / 8;
        stored = stored[..(count * width)];
        files.Read(Tensor, first * Columns * width, stored);
        Decode(stored, Type, scales[..count]);
    }

    /// <summary>The grid of a weight: in the blocks that the config states, or one for each row, or for the whole.</summary>
    public static ScaleGrid Of(string name, StoredTensor scale, IReadOnlyList<long> shape, (long Rows, int Columns)? block) =>
        shape.Count >= 2 && shape.All(d => d is > 0 and < int.MaxValue) && scale.Length > 0
            && scale.Type is TensorType.F32 or TensorType.F16 or TensorType.BF16 or TensorType.F8_E4M3 or TensorType.F8_E8M0
                or TensorType.U8
            && ((block is null ? null : Fit(scale, shape, block)) ?? Fit(scale, shape, null)) is { } grid ? grid
        : throw QuantizedFormat.Damaged(
            name, $"'{scale.Name}' {scale.Type} {scale.Shape.Text()} does not fit "
            + $"{shape.Text()}{(block is { } b ? $" in blocks of {b.Rows}×{b.Columns}" : "")}");

    /// <summary>Fits a stored grid (a scalar, one value, a vector of rows, or a matrix; one more dimension for stacked matrices) to a
    /// weight's shape, with the block that the config states, if any; null if it does not fit.</summary>
    private static ScaleGrid? Fit(StoredTensor tensor, IReadOnlyList<long> shape, (long Rows, int Columns)? block)
    {
        var (rows, columns) = (shape[^2], checked((int)shape[^1]));
        var stacked = shape.Count > 2 ? shape.Take(shape.Count - 2).Aggregate(1L, (a, b) => a * b) : 1;
        var count = tensor.Shape.Count();
        if (count == 1)
        {
            return new ScaleGrid(tensor, new ScaleBlocks(rows * stacked, rows * stacked, columns, 1));
        }

        if (block is { } b)
        {
            var (gridRows, gridColumns) = (Quotient(rows, b.Rows), (int)Quotient(columns, b.Columns));
            return count == stacked * gridRows * gridColumns
                ? new ScaleGrid(tensor, new ScaleBlocks(rows, b.Rows, b.Columns, gridColumns))
                : null;
        }

        if (count == stacked && stacked > 1)
        {
            return new ScaleGrid(tensor, new ScaleBlocks(rows, rows, columns, 1));
        }

        // One row of scales for each row of the matrix: a whole number of equal groups.
        var groups = count % (rows * stacked) == 0 ? count / (rows * stacked) : 0;
        return groups > 0 && columns % groups == 0
            ? new ScaleGrid(tensor, new ScaleBlocks(rows, 1, columns / (int)groups, (int)groups))
            : null;
    }

    // Rounded up, for a block of any size.
    private static long Quotient(long count, long block) => ((count - 1) / block) + 1;

    /// <summary>Reads scales as fp32.</summary>
    public static void Decode(ReadOnlySpan<byte> stored, TensorType type, Span<float> values)
    {
        if (type is not (TensorType.U8 or TensorType.F8_E8M0))
        {
            Codes.Widen(type, stored, values);
            return;
        }

        for (var i = 0; i < values.Length; i++)
        {
            values[i] = PowersOfTwo.Of(stored[i]);
        }
    }
}
