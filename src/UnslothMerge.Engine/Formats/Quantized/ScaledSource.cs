using UnslothMerge.IO;

namespace UnslothMerge.Formats.Quantized;

/// <summary>What a weight of row-major codes with scales is made of.</summary>
internal sealed record ScaledWeight(
    string Format, StoredTensor Codes, IReadOnlyList<long> Shape, CodeDecoder Decoder, long RowBytes, ScaleGrid Scales)
{
    /// <summary>The zero points, a grid like that of the scales; null if symmetric.</summary>
    public ZeroPoints? Zeros { get; init; }

    /// <summary>I32 [columns]: the group of each column, where they are not in order.</summary>
    public StoredTensor? GroupIndex { get; init; }

    /// <summary>One value that all scales are divided by.</summary>
    public StoredTensor? Divisor { get; init; }

    /// <summary>A factor on all scales.</summary>
    public float Factor { get; init; } = 1;

    /// <summary>True if scales are powers of two, whatever dtype holds them.</summary>
    public bool HasPowersOfTwo { get; init; }

    /// <summary>How values become codes again.</summary>
    public required CodeBook Book { get; init; }

    /// <summary>How the codes are packed.</summary>
    public CodeLayout Layout { get; init; } = CodeLayout.Bytes;

    /// <summary>Stored tensors that only matter to the quantized model.</summary>
    public IReadOnlyList<StoredTensor> Ignored { get; init; } = [];
}

/// <summary>Zero points, in the order of a grid of scales; packed ones have so many bits, along the rows of an I32 tensor (0: not
/// packed).</summary>
internal sealed record ZeroPoints(StoredTensor Tensor, int PackedBits)
{
    /// <summary>Reads a grid of zero points. Packed ones lie along the rows: the fields of one column of the grid follow each other in its
    /// words.</summary>
    public float[] Read(InputFiles files, int rows, int columns)
    {
        var stored = files.ReadAll(Tensor);
        var values = new float[rows * columns];
        if (PackedBits == 0)
        {
            Codes.Widen(Tensor.Type, stored, values);
            return values;
        }

        var words = MemoryMarshal.Cast<byte, uint>(stored);
        var column = new uint[words.Length / columns];
        for (var c = 0; c < columns; c++)
        {
            for (var w = 0; w < column.Length; w++)
            {
                column[w] = words[(w * columns) + c];
            }

            for (var r = 0; r < rows; r++)
            {
                values[(r * columns) + c] = Codes.Field(
                    MemoryMarshal.AsBytes(column.AsSpan()), (long)r * PackedBits, PackedBits) - (1 << (PackedBits - 1));
            }
        }

        return values;
    }
}

/// <summary>
/// A weight stored as codes with scales, row by row: (code − zero) · scale, in fp32, without an intermediate rounding. LLM.int8, FP8 and
/// compressed-tensors' formats are of this kind.
/// </summary>
internal sealed class ScaledSource(ScaledWeight weight, TensorType type) : TensorSource
{
    public override IReadOnlyList<long> Shape => weight.Shape;

    public override TensorType Type => type;

    public override string Format => weight.Format;

    public override IReadOnlyList<StoredTensor> Inputs =>
    [
        .. new[] { weight.Codes, weight.Scales.Tensor, weight.Zeros?.Tensor, weight.GroupIndex, weight.Divisor }.OfType<StoredTensor>(),
        .. weight.Ignored,
    ];

    public override long BytesOf(MatrixView view, int rows) => CacheLine.Align(rows * weight.RowBytes) + weight.Scales.BytesOf(rows);

    public override TensorSink WrittenBack(string name)
    {
        var companions = new[] { weight.Zeros?.Tensor, weight.GroupIndex }.OfType<StoredTensor>();
        return new GridSink(
            new GridWeight(
                weight.Format, Output(weight.Codes), Output(weight.Scales.Tensor), weight.Book, weight.Layout, weight.Scales.Blocks)
            {
                ReadBaseScales = ReadBaseScales,
                HasPowersOfTwo = weight.HasPowersOfTwo,
                Divisor = weight.Divisor is null ? null : (weight.Divisor, Output(weight.Divisor)),
                Companions = [.. companions.Concat(weight.Ignored).Select(t => (t, Output(t)))],
            },
            MatrixView.Of(weight.Shape));

        TensorSpec Output(StoredTensor stored) => CopySink.Output(name, weight.Codes, stored);
    }

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(weight, files, view);

    private BaseScales ReadBaseScales(InputFiles files)
    {
        var (scales, columns) = (weight.Scales.Tensor, weight.Scales.Columns);
        return new BaseScales(
            files.ReadAll(scales), weight.Zeros?.Read(files, (int)scales.Shape.Count() / columns, columns), Groups(files, weight),
            Factor(files, weight));
    }

    private static float Factor(InputFiles files, ScaledWeight weight)
    {
        if (weight.Divisor is not { } divisor)
        {
            return weight.Factor;
        }

        var value = new float[1];
        PlainFormat.Decoder(divisor.Type)(files.ReadAll(divisor).AsSpan(0, divisor.Type.Bits() / 8), value);
        return weight.Factor / value[0];
    }

    // A module that was not reordered after all has -1 throughout.
    private static int[]? Groups(InputFiles files, ScaledWeight weight)
    {
        var groups = weight.GroupIndex is null ? [] : files.ReadAll<int>(weight.GroupIndex);
        return groups.All(g => g == -1) ? null
            : groups.All(g => g >= 0 && g < weight.Scales.Columns) ? groups
            : throw QuantizedFormat.Damaged(
                weight.Codes.Name, $"'{weight.GroupIndex!.Name}' names groups beyond the {weight.Scales.Columns} that have scales");
    }

    private sealed class Reader : TensorReader
    {
        private readonly ScaledWeight _weight;
        private readonly InputFiles _files;
        private readonly float _factor;
        private readonly float[]? _zeros;
        private readonly int[]? _groups;
        private readonly int? _block;

        public Reader(ScaledWeight weight, InputFiles files, MatrixView view)
        {
            _weight = weight;
            _files = files;
            _factor = Factor(files, weight);
            _zeros = weight.Zeros?.Read(files, (int)weight.Scales.GridRow(view.Rows - 1) + 1, weight.Scales.Columns);
            _groups = Groups(files, weight);
            _block = _groups is not null
                ? null
                : weight.Scales.Columns == 1
                ? Codes.WholeRow
                : weight.Scales.Blocks.BlockColumns % 16 == 0
                ? weight.Scales.Blocks.BlockColumns
                : null;
        }

        public override void Read(long row, int rows, Span<byte> stored)
        {
            var bytes = (int)(rows * _weight.RowBytes);
            _files.Read(_weight.Codes, row * _weight.RowBytes, stored[..bytes]);
            var floats = _weight.Scales.MaxGridRows(rows) * _weight.Scales.Columns * sizeof(float);
            var rest = stored[(int)CacheLine.Align(bytes)..];
            var scales = MemoryMarshal.Cast<byte, float>(rest[..floats]);
            _weight.Scales.Read(_files, row, rows, scales, rest[floats..]);
            if (_factor != 1)
            {
                TensorPrimitives.Multiply(scales, _factor, scales);
            }
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var grid = _weight.Scales;
            var floats = grid.MaxGridRows(rows) * grid.Columns * sizeof(float);
            var allScales = MemoryMarshal.Cast<byte, float>(stored.Slice((int)CacheLine.Align(rows * _weight.RowBytes), floats));
            for (var i = 0; i < tile.Rows; i++)
            {
                var codes = stored.Slice((int)((tile.Row - row + i) * _weight.RowBytes), (int)_weight.RowBytes);
                var values = tile.WeightRow(i);
                var gridRow = grid.GridRow(tile.Row + i);
                var scales = allScales.Slice((int)(gridRow - grid.GridRow(row)) * grid.Columns, grid.Columns);
                var zeros = _zeros is null ? default : _zeros.AsSpan((int)gridRow * grid.Columns, grid.Columns);
                if (_block is { } block)
                {
                    _weight.Decoder(codes, tile.Column, scales, zeros, block, values);
                }
                else
                {
                    _weight.Decoder(codes, tile.Column, [1], default, Codes.WholeRow, values);
                    Scale(values, tile.Column, scales, zeros);
                }
            }
        }

        // Groups that are in no order, or of a size that no vector has.
        private void Scale(Span<float> values, int column, ReadOnlySpan<float> scales, ReadOnlySpan<float> zeros)
        {
            for (var i = 0; i < values.Length; i++)
            {
                var group = _groups?[column + i] ?? (column + i) / _weight.Scales.Blocks.BlockColumns;
                values[i] = (values[i] - (zeros.IsEmpty ? 0 : zeros[group])) * scales[group];
            }
        }
    }
}
