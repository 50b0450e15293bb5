using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>The scales of a weight that is quantized in the base, with a factor on them; the code of zero of each block (null: 0); the
/// group of each column, where they are not in order.</summary>
internal sealed record BaseScales(byte[] Scales, float[]? Zeros, int[]? GroupIndex, float Factor);

/// <summary>How a weight is stored as codes with scales: how values become codes, how codes are packed, which blocks share a
/// scale.</summary>
internal sealed record GridWeight(string Format, TensorSpec Codes, TensorSpec Scales, CodeBook Book, CodeLayout Layout, ScaleBlocks Blocks)
{
    /// <summary>The scale of a block of zeros.</summary>
    public float EmptyScale { get; init; } = 1;

    /// <summary>True if scales are powers of two, whatever dtype holds them.</summary>
    public bool HasPowersOfTwo { get; init; }

    /// <summary>Reads the scales that the weight has in the base; null if it has none there.</summary>
    public Func<InputFiles, BaseScales>? ReadBaseScales { get; init; }

    /// <summary>What the scales are, where their dtype does not tell.</summary>
    public TensorType ScaleType { get; init; } = Scales.Type;

    /// <summary>One value for all scales, in the base and in the output.</summary>
    public (GlobalScale Scale, TensorSpec Output)? Global { get; init; }

    /// <summary>[columns]: the codes hold values that are divided by these.</summary>
    public StoredTensor? ColumnScale { get; init; }

    /// <summary>Stored tensors that stay as they are, in the base and in the output.</summary>
    public IReadOnlyList<(StoredTensor Stored, TensorSpec Output)> Companions { get; init; } = [];
}

/// <summary>Writes a weight as codes with scales. The merge is rounded once, from fp32 to the codes. (The tools that make such models
/// quantize what was rounded to 16 bits before; for weights that no adapter changes that is the same.) A weight that has scales already
/// keeps each of them, with its zero point, as long as the merged values fit it, so that what nothing has changed becomes the same codes
/// again; other blocks get the least scale that holds them: largest magnitude / largest code. Sources: DeepSeek-V3, <c>weight_dequant</c>;
/// transformers 5, <c>Fp8Quantize</c>; compressed-tensors 0.20, <c>calculate_qparams</c>.</summary>
internal sealed class GridSink(GridWeight weight, MatrixView view) : TensorSink
{
    // Quotients have rounding errors.
    private const float Tolerance = 1.000001f;

    // The scale of a block of more rows is chosen in a first pass, so that they need not be in memory at once.
    private const int MaxBlockRows = 512;

    private static readonly PlainCombiner Add = PlainFormat.Combiner(TensorType.F32, TensorType.F32);

    public override IReadOnlyList<TensorSpec> Outputs { get; } =
    [
        weight.Codes,
        weight.Scales,
        .. weight.Companions.Select(c => c.Output),
        .. weight.Global is { } global ? new[] { global.Output } : [],
    ];

    public override string Format => weight.Format;

    public override bool IsQuantized => true;

    public override bool NeedsSurvey => weight.Global is not null || weight.Blocks.Quantum(view.Rows) > MaxBlockRows;

    public override int RowQuantum => Math.Max(weight.Layout.RowQuantum, NeedsSurvey ? 1 : (int)weight.Blocks.Quantum(view.Rows));

    public override long ResidentBytes =>
        weight.Layout.ResidentBytes + weight.Scales.Bytes + (Cells * (NeedsSurvey ? 5L : 1) * sizeof(float));

    private int Cells => checked((int)((weight.Blocks.RowOf(view.Rows - 1) + 1) * weight.Blocks.Columns));

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * (sizeof(float) + 1);

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) => new Writer(this, weight, files, view, output);

    /// <summary>Writes the sum of weight and delta into a buffer of fp32 values.</summary>
    public static void Combine(Tile tile, long row, MatrixView view, Span<byte> encoded, ref TileStatistics statistics) =>
        Add.Encode(tile, row, view, encoded, sizeof(float), ref statistics);

    private sealed class Writer : TensorWriter
    {
        private readonly GridSink _sink;
        private readonly GridWeight _weight;
        private readonly InputFiles _files;
        private readonly MatrixView _view;
        private readonly IOutput _output;
        private readonly CodeWriter _codes;
        private readonly BaseScales _scales;
        private readonly (float Low, float High, double Error)[] _ranges;
        private readonly float[]? _columns;
        private readonly int[]? _order;
        private readonly (int Start, int Count, int Group)[] _runs;
        private readonly Lazy<float> _factor;

        public Writer(GridSink sink, GridWeight weight, InputFiles files, MatrixView view, IOutput output)
        {
            (_sink, _weight, _files, _view, _output) = (sink, weight, files, view, output);
            _scales = weight.ReadBaseScales?.Invoke(files) ?? new BaseScales(new byte[weight.Scales.Bytes], null, null, 1);
            _columns = weight.ColumnScale is null ? null : ScaledSource.Vector(files, weight.ColumnScale);
            _ranges = new (float, float, double)[sink.NeedsSurvey ? sink.Cells : 0];
            _order = _scales.GroupIndex is { } groups && !groups.SequenceEqual(groups.Order())
                ? [.. Enumerable.Range(0, groups.Length).OrderBy(c => groups[c])]
                : null;
            _runs = [.. Runs(weight.Blocks, view.Columns, _scales.GroupIndex)];
            _factor = new Lazy<float>(sink.NeedsSurvey ? ChooseScales : () => _scales.Factor);
            _codes = weight.Layout.Open(view, output);
        }

        public override void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics)
        {
            Combine(tile, row, _view, encoded, ref statistics);
            for (var i = 0; i < tile.Rows && _columns is not null; i++)
            {
                var values = MemoryMarshal.Cast<byte, float>(encoded)
                    .Slice(((int)(tile.Row - row + i) * _view.Columns) + tile.Column, tile.Columns);
                TensorPrimitives.Divide(values, _columns.AsSpan(tile.Column, tile.Columns), values);
            }
        }

        public override void Survey(long row, int rows, Span<byte> encoded)
        {
            var values = Ordered(rows, encoded);
            var codes = CodesOf(rows, encoded);
            foreach (var block in BlocksOf(row, rows))
            {
                var (low, high) = RangeOf(values, block);
                var scale = StoredScale(block.Cell) * _scales.Factor;
                var error = _weight.ReadBaseScales is null ? 0 : Encode(values, codes, block, scale).ErrorSquares;
                lock (_ranges)
                {
                    ref var all = ref _ranges[block.Cell];
                    all = (MathF.Min(all.Low, low), MathF.Max(all.High, high), all.Error + error);
                }
            }
        }

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var factor = _factor.Value;
            var values = Ordered(rows, encoded);
            var codes = CodesOf(rows, encoded);
            foreach (var block in BlocksOf(row, rows))
            {
                if (NewScale(values, codes, block, factor) is { } scale)
                {
                    Store(scale, block.Cell);
                }

                statistics.Add(Encode(values, codes, block, StoredScale(block.Cell) * factor));
            }

            Reorder(codes, rows, back: true);
            _codes.Write(row, rows, codes);
        }

        public override void RoundTrip(long row, int rows, Span<float> values)
        {
            var factor = _factor.Value;
            var codes = new byte[values.Length];
            for (var start = 0; start < values.Length && _columns is not null; start += _columns.Length)
            {
                TensorPrimitives.Divide(values.Slice(start, _columns.Length), _columns, values.Slice(start, _columns.Length));
            }

            Reorder(values, rows, back: false);
            foreach (var block in BlocksOf(row, rows))
            {
                var scale = (NewScale(values, codes, block, factor) ?? StoredScale(block.Cell)) * factor;
                for (var i = 0; i < block.Rows; i++)
                {
                    _weight.Book.RoundTrip(
                        values.Slice(block.Start + (i * _view.Columns), block.Columns), scale == 0 ? 1 : scale, Zero(block.Cell));
                }
            }

            Reorder(values, rows, back: true);
            for (var start = 0; start < values.Length && _columns is not null; start += _columns.Length)
            {
                TensorPrimitives.Multiply(values.Slice(start, _columns.Length), _columns, values.Slice(start, _columns.Length));
            }
        }

        public override IReadOnlyList<byte[]> Finish()
        {
            _codes.Finish();
            _output.Write(1, 0, _scales.Scales);
            for (var i = 0; i < _weight.Companions.Count; i++)
            {
                _output.Write(2 + i, 0, _files.ReadAll(_weight.Companions[i].Stored));
            }

            if (_weight.Global is { Scale: var global })
            {
                var bytes = _files.ReadAll(global.Stored);
                if (_factor.Value != _scales.Factor)
                {
                    ScaleType.Write(global.Convert(_factor.Value), global.Stored.Type, bytes, 0);
                }

                _output.Write(2 + _weight.Companions.Count, 0, bytes);
            }

            return [];
        }

        public override void Dispose()
        {
            _codes.Dispose();
            base.Dispose();
        }

        private float StoredScale(int cell) => ScaleType.Read(_scales.Scales, _weight.ScaleType, IndexOf(cell));

        private int IndexOf(int cell) =>
            _weight.Layout.IsTransposed
                ? (cell % _weight.Blocks.Columns * (_sink.Cells / _weight.Blocks.Columns)) + (cell / _weight.Blocks.Columns)
                : cell;

        private int Zero(int cell) => (int)(_scales.Zeros?[cell] ?? 0);

        // After the survey of all blocks. Where all scales have one divisor, it must fit the largest value of the weight.
        private float ChooseScales()
        {
            var factor = _scales.Factor;
            if (_weight.Global is { Scale: var global })
            {
                var most = ScaleType.Largest(_weight.ScaleType) * _weight.Book.Highest;
                var largest = _ranges.Max(s => s.High);
                Span<byte> stored = stackalloc byte[sizeof(double)];
                ScaleType.Write(global.Convert(largest / most), global.Stored.Type, stored, 0);
                factor = largest > most * factor * Tolerance ? global.Convert(ScaleType.Read(stored, global.Stored.Type, 0)) : factor;
            }

            for (var cell = 0; cell < _ranges.Length; cell++)
            {
                var (low, high, error) = _ranges[cell];
                var scale = StoredScale(cell) * factor;
                if (factor != _scales.Factor || !Fits(scale, (low, high), cell) || (!Suits(scale, (low, high), cell) && error > 0))
                {
                    Store(NewScale(cell, (low, high), factor), cell);
                }
            }

            return factor;
        }

        private bool Fits(float scale, (float Low, float High) range, int cell) =>
            _weight.ReadBaseScales is not null && float.IsFinite(scale)
                && (range is { Low: 0, High: 0 } || (scale != 0 && _weight.Book.Holds(scale, range.Low, range.High, Zero(cell))));

        // A scale that is far too coarse may belong to an unchanged block, which it encodes without error.
        private bool Suits(float scale, (float Low, float High) range, int cell) =>
            range is { Low: 0, High: 0 } || _weight.Book.Suits(scale, range.Low, range.High, Zero(cell));

        // Null if a block keeps its scale, as it does after a survey.
        private float? NewScale(ReadOnlySpan<float> values, Span<byte> codes, Block block, float factor)
        {
            if (_sink.NeedsSurvey)
            {
                return null;
            }

            var range = RangeOf(values, block);
            var scale = StoredScale(block.Cell) * factor;
            return Fits(scale, range, block.Cell)
                && (Suits(scale, range, block.Cell) || Encode(values, codes, block, scale).ErrorSquares == 0)
                ? null : NewScale(block.Cell, range, factor);
        }

        // As it is stored.
        private float NewScale(int cell, (float Low, float High) range, float factor)
        {
            var needed = _weight.Book.Needed(range.Low, range.High, Zero(cell));
            var scale = needed > 0 ? needed / factor : _weight.EmptyScale;
            Span<byte> stored = stackalloc byte[sizeof(double)];
            ScaleType.Write(_weight.HasPowersOfTwo ? ScaleType.PowerOfTwo(scale) : scale, _weight.ScaleType, stored, 0);
            return ScaleType.Read(stored, _weight.ScaleType, 0);
        }

        private void Store(float scale, int cell) => ScaleType.Write(scale, _weight.ScaleType, _scales.Scales, IndexOf(cell));

        private TileStatistics Encode(ReadOnlySpan<float> values, Span<byte> codes, Block block, float scale)
        {
            var statistics = default(TileStatistics);
            for (var i = 0; i < block.Rows; i++)
            {
                var start = block.Start + (i * _view.Columns);
                _weight.Book.Encode(
                    values.Slice(start, block.Columns), scale == 0 ? 1 : scale, Zero(block.Cell), codes.Slice(start, block.Columns),
                    ref statistics);
            }

            return statistics;
        }

        private (float Low, float High) RangeOf(ReadOnlySpan<float> values, Block block)
        {
            var (low, high) = (0f, 0f);
            for (var i = 0; i < block.Rows; i++)
            {
                var range = _weight.Book.RangeOf(values.Slice(block.Start + (i * _view.Columns), block.Columns));
                (low, high) = (MathF.Min(low, range.Low), MathF.Max(high, range.High));
            }

            return (low, high);
        }

        private IEnumerable<Block> BlocksOf(long row, int rows)
        {
            for (var r = 0; r < rows;)
            {
                var height = (int)Math.Min(_weight.Blocks.RowsFrom(row + r), rows - r);
                var first = checked((int)(_weight.Blocks.RowOf(row + r) * _weight.Blocks.Columns));
                foreach (var run in _runs)
                {
                    yield return new Block((r * _view.Columns) + run.Start, height, run.Count, first + run.Group);
                }

                r += height;
            }
        }

        private Span<byte> CodesOf(int rows, Span<byte> encoded) =>
            encoded.Slice(rows * _view.Columns * sizeof(float), rows * _view.Columns);

        private Span<float> Ordered(int rows, Span<byte> encoded)
        {
            var values = MemoryMarshal.Cast<byte, float>(encoded)[..(rows * _view.Columns)];
            Reorder(values, rows, back: false);
            return values;
        }

        // Puts columns in the order of their groups, or back.
        private void Reorder<T>(Span<T> values, int rows, bool back)
        {
            if (_order is null)
            {
                return;
            }

            var old = new T[_view.Columns];
            for (var r = 0; r < rows; r++)
            {
                var row = values.Slice(r * _view.Columns, _view.Columns);
                row.CopyTo(old);
                for (var c = 0; c < _order.Length; c++)
                {
                    row[back ? _order[c] : c] = old[back ? c : _order[c]];
                }
            }
        }

        /// <summary>The part of a block that lies in a piece, by the index of its first value; the cell is the index of its
        /// scale.</summary>
        private readonly record struct Block(int Start, int Rows, int Columns, int Cell);

        private static IEnumerable<(int Start, int Count, int Group)> Runs(ScaleBlocks blocks, int columns, int[]? groupIndex)
        {
            var sizes = groupIndex?.GroupBy(g => g).ToDictionary(g => g.Key, g => g.Count());
            for (int group = 0, start = 0; group < blocks.Columns; group++)
            {
                var count = sizes is null ? Math.Min(blocks.BlockColumns, columns - start) : sizes.GetValueOrDefault(group);
                if (count > 0)
                {
                    yield return (start, count, group);
                }

                start += count;
            }
        }
    }
}
