namespace UnslothMerge.Formats.Quantized;

/// <summary>What a weight of row-major codes with scales is made of.</summary>
internal sealed record ScaledWeight(
    string Format, StoredTensor Codes, IReadOnlyList<long> Shape, CodeDecoder Decoder, long RowBytes, ScaleGrid Scales)
{
    /// <summary>The zero points, a grid like that of the scales; null if symmetric.</summary>
    public ZeroPoints? Zeros { get; init; }

    /// <summary>I32 [columns]: the group of each column, where they are not in order.</summary>
    public StoredTensor? GroupIndex { get; init; }

    /// <summary>One value for all scales.</summary>
    public GlobalScale? Global { get; init; }

    /// <summary>What is added to each product, a grid like that of the scales.</summary>
    public ScaleGrid? Biases { get; init; }

    /// <summary>[columns]: the factor of each column (AWQ's activations are divided by it).</summary>
    public StoredTensor? ColumnScale { get; init; }

    /// <summary>True if two rows share a row of bytes, the first in the low nibbles, in two's complement.</summary>
    public bool PairsRows { get; init; }

    /// <summary>Writes changed values in the same form; null for codes with scales, which <see cref="GridSink"/> writes.</summary>
    public Func<string, TensorSink>? WrittenBack { get; init; }

    public float Factor { get; init; } = 1;

    /// <summary>True if scales are powers of two, whatever dtype holds them.</summary>
    public bool HasPowersOfTwo { get; init; }

    /// <summary>How values become codes again.</summary>
    public required CodeBook Book { get; init; }

    /// <summary>How the codes are packed.</summary>
    public CodeLayout Layout { get; init; } = CodeLayout.Bytes;

    /// <summary>Stored tensors that only matter to the quantized model.</summary>
    public IReadOnlyList<StoredTensor> Ignored { get; init; } = [];

    /// <summary>The weight itself.</summary>
    /// <exception cref="MergeException">A companion does not fit it.</exception>
    public ScaledWeight Checked()
    {
        var (columns, cells) = (Shape[^1], Scales.Tensor.Shape.Count());
        if (Zeros is { PackedBits: > 0 and var bits })
        {
            var words = ((cells / Scales.Columns * bits) + 31) / 32;
            Require(Zeros.Tensor, words * Scales.Columns, t => t == TensorType.I32);
        }
        else
        {
            Require(Zeros?.Tensor, cells, t => t.IsPlainFloat() || Quantized.Codes.Of(t) is not null);
        }

        Require(GroupIndex, columns, t => t == TensorType.I32);
        Require(Global?.Stored, 1, t => t.IsPlainFloat());
        Require(Biases?.Tensor, cells, t => t.IsPlainFloat());
        Require(ColumnScale, columns, t => t.IsPlainFloat());
        return this;
    }

    private void Require(StoredTensor? companion, long count, Func<TensorType, bool> holds)
    {
        if (companion is not null && !(companion.Shape.Count() == count && holds(companion.Type)))
        {
            throw QuantizedFormat.Damaged(
                Codes.Name, $"'{companion.Name}' is {companion.Type} {companion.Shape.Text()}, but {count} values belong to {Shape.Text()} "
                + $"with scales {Scales.Tensor.Shape.Text()}");
        }
    }

    /// <summary>Two FP4 codes in a byte: groups of 32 with powers of two as scales (MXFP4), or of 16 with E4M3 (NVFP4).</summary>
    public static ScaledWeight Fp4(StoredTensor codes, StoredTensor scale, int? group)
    {
        long[] shape = [.. codes.Shape.SkipLast(1), codes.Shape[^1] * 2];
        return new ScaledWeight(
            scale.Type is TensorType.U8 or TensorType.F8_E8M0 ? "MXFP4" : "NVFP4", codes, shape, Quantized.Codes.FourBitFloats,
            codes.Shape[^1], ScaleGrid.Of(codes.Name, scale, shape, group is { } columns ? (1, columns) : null))
        {
            Book = CodeBook.E2M1,
            Layout = CodeLayout.Packed(4, codes.Shape[^1]),
        };
    }
}

/// <summary>One stored value that multiplies all scales, or divides them.</summary>
internal sealed record GlobalScale(StoredTensor Stored, bool Divides)
{
    /// <summary>The factor for a stored value, and the stored value for a factor.</summary>
    public float Convert(float value) => Divides ? 1 / value : value;
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

/// <summary>A weight stored as codes with scales, row by row: (code − zero) · scale, in fp32, without an intermediate rounding. LLM.int8,
/// FP8 and compressed-tensors' formats are of this kind.</summary>
internal sealed class ScaledSource(ScaledWeight weight, TensorType type) : TensorSource
{
    private readonly ScaledWeight _weight = weight.Checked();

    public override IReadOnlyList<long> Shape => _weight.Shape;

    public override TensorType Type => type;

    public override string Format => _weight.Format;

    public override IReadOnlyList<StoredTensor> Inputs =>
    [
        .. new[]
        {
            _weight.Codes, _weight.Scales.Tensor, _weight.Biases?.Tensor, _weight.Zeros?.Tensor, _weight.GroupIndex, _weight.Global?.Stored,
            _weight.ColumnScale,
        }.OfType<StoredTensor>(),
        .. _weight.Ignored,
    ];

    public override int RowQuantum => _weight.PairsRows ? 2 : 1;

    public override long BytesOf(MatrixView view, int rows) =>
        CacheLine.Align(rows * _weight.RowBytes) + _weight.Scales.BytesOf(rows) + (_weight.Biases?.BytesOf(rows) ?? 0);

    public override TensorSink WrittenBack(string name)
    {
        var companions = new[] { _weight.Zeros?.Tensor, _weight.GroupIndex, _weight.ColumnScale }.OfType<StoredTensor>();
        return _weight.WrittenBack?.Invoke(name) ?? new GridSink(
            new GridWeight(
                _weight.Format, Output(_weight.Codes), Output(_weight.Scales.Tensor), _weight.Book, _weight.Layout, _weight.Scales.Blocks)
            {
                ReadBaseScales = ReadBaseScales,
                HasPowersOfTwo = _weight.HasPowersOfTwo,
                ScaleType = _weight.Scales.Type,
                ColumnScale = _weight.ColumnScale,
                Global = _weight.Global is null ? null : (_weight.Global, Output(_weight.Global.Stored)),
                Companions = [.. companions.Concat(_weight.Ignored).Select(t => (t, Output(t)))],
            },
            MatrixView.Of(_weight.Shape));

        TensorSpec Output(StoredTensor stored) => CopySink.Output(name, _weight.Codes, stored);
    }

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(_weight, files, view);

    private BaseScales ReadBaseScales(InputFiles files)
    {
        var (scales, columns) = (_weight.Scales.Tensor, _weight.Scales.Columns);
        return new BaseScales(
            files.ReadAll(scales), _weight.Zeros?.Read(files, (int)scales.Shape.Count() / columns, columns), Groups(files, _weight),
            Factor(files, _weight));
    }

    private static float Factor(InputFiles files, ScaledWeight weight)
    {
        if (weight.Global is not { } global)
        {
            return weight.Factor;
        }

        var value = new float[1];
        PlainFormat.Decoder(global.Stored.Type)(files.ReadAll(global.Stored).AsSpan(0, global.Stored.Type.Bits() / 8), value);
        return weight.Factor * global.Convert(value[0]);
    }

    /// <summary>Reads a vector of plain numbers.</summary>
    public static float[] Vector(InputFiles files, StoredTensor stored)
    {
        var values = new float[stored.Shape.Count()];
        PlainFormat.Decoder(stored.Type)(files.ReadAll(stored), values);
        return values;
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
        private readonly float[]? _columns;
        private readonly int? _block;

        public Reader(ScaledWeight weight, InputFiles files, MatrixView view)
        {
            _weight = weight;
            _files = files;
            _factor = Factor(files, weight);
            _zeros = weight.Zeros?.Read(files, (int)weight.Scales.GridRow(view.Rows - 1) + 1, weight.Scales.Columns);
            _groups = Groups(files, weight);
            _columns = weight.ColumnScale is null ? null : Vector(files, weight.ColumnScale);
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
            if (_weight.PairsRows)
            {
                ReadPairs(row, rows, stored);
            }
            else
            {
                _files.Read(_weight.Codes, row * _weight.RowBytes, stored[..(int)(rows * _weight.RowBytes)]);
            }

            var rest = stored[ScalesAt(rows)..];
            var scales = ReadGrid(_weight.Scales, row, rows, rest);
            if (_factor != 1)
            {
                TensorPrimitives.Multiply(scales, _factor, scales);
            }

            if (_weight.Biases is { } biases)
            {
                ReadGrid(biases, row, rows, rest[(int)_weight.Scales.BytesOf(rows)..]);
            }
        }

        private int ScalesAt(int rows) => (int)CacheLine.Align(rows * _weight.RowBytes);

        private Span<float> ReadGrid(ScaleGrid grid, long row, int rows, Span<byte> buffer)
        {
            var floats = grid.MaxGridRows(rows) * grid.Columns * sizeof(float);
            var scales = MemoryMarshal.Cast<byte, float>(buffer[..floats]);
            grid.Read(_files, row, rows, scales, buffer[floats..]);
            return scales;
        }

        // Each code in a byte of its own.
        private void ReadPairs(long row, int rows, Span<byte> codes)
        {
            var columns = (int)_weight.RowBytes;
            var buffer = ArrayPool<byte>.Shared.Rent((rows + 1) / 2 * columns);
            var pairs = buffer.AsSpan(0, (rows + 1) / 2 * columns);
            _files.Read(_weight.Codes, row / 2 * columns, pairs);
            for (var r = 0; r < rows; r++)
            {
                for (var c = 0; c < columns; c++)
                {
                    var pair = pairs[(r / 2 * columns) + c];
                    codes[(r * columns) + c] = (byte)((sbyte)(byte)(r % 2 == 0 ? pair << 4 : pair) >> 4);
                }
            }

            ArrayPool<byte>.Shared.Return(buffer);
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var grid = _weight.Scales;
            var floats = grid.MaxGridRows(rows) * grid.Columns * sizeof(float);
            var allScales = MemoryMarshal.Cast<byte, float>(stored.Slice(ScalesAt(rows), floats));
            var allBiases = _weight.Biases is null ? default
                : MemoryMarshal.Cast<byte, float>(stored.Slice(ScalesAt(rows) + (int)grid.BytesOf(rows), floats));
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

                if (!allBiases.IsEmpty)
                {
                    var biases = allBiases.Slice((int)(gridRow - grid.GridRow(row)) * grid.Columns, grid.Columns);
                    for (var c = 0; c < values.Length; c++)
                    {
                        values[c] += biases[(tile.Column + c) / grid.Blocks.BlockColumns];
                    }
                }

                if (_columns is not null)
                {
                    TensorPrimitives.Multiply(values, _columns.AsSpan(tile.Column, values.Length), values);
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
