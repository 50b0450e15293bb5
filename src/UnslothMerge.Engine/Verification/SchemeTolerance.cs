using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>For a scheme of compressed-tensors: scales must be those of the expected values, and each value a code's that is as near as
/// any, by the scale that is stored. In float64, by the formulas of compressed-tensors 0.19.</summary>
internal sealed class SchemeTolerance : QuantizationTolerance
{
    // fp32 arithmetic, and what the merge may miss of the largest value.
    private const double Slack = 4e-6;

    private static readonly double[] E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

    private static readonly double[] E4M3 = [.. Enumerable.Range(0, 127).Select(c =>
        c < 8 ? Math.ScaleB(c, -9) : Math.ScaleB(8 + (c % 8), (c / 8) - 10))];

    private readonly InputFiles _files;
    private readonly StoredTensor _scales;
    private readonly StoredTensor? _zeros;
    private readonly double? _divisor;
    private readonly int _blockRows;
    private readonly int _groups;
    private readonly int _bits;
    private readonly bool _isFloat;
    private readonly uint[] _zeroWords;

    private SchemeTolerance(TensorSource output, StoredTensor scales, JsonObject weights, InputFiles files)
    {
        (_files, _scales, _zeros) = (files, scales, Companion(output, "weight_zero_point"));
        _blockRows = (int?)(weights["block_structure"] as JsonArray)?[0] ?? 1;
        _groups = (int)scales.Shape[^1];
        (_bits, _isFloat) = ((int)weights.Number("num_bits")!, weights.String("type") == "float");
        _divisor = Companion(output, "weight_global_scale") is { } stored ? PlainValues.ReadAll(files, stored)[0] : null;
        _zeroWords = _zeros is null ? [] : files.ReadAll<uint>(_zeros);
    }

    /// <summary>For a tensor of a model with this quantization; null if it is none of a scheme.</summary>
    public static SchemeTolerance? OfScheme(TensorSource output, JsonObject? quantization, InputFiles files) =>
        quantization?.String("quant_method") == "compressed-tensors" && quantization["config_groups"] is JsonObject { Count: 1 } groups
        && (groups.First().Value as JsonObject)?["weights"] is JsonObject weights && Companion(output, "weight_scale") is { } scales
        && output.Shape.Count == 2 && scales.Shape.Count == 2 && output.Shape[1] % scales.Shape[1] == 0
        && Companion(output, "weight_g_idx") is null
            ? new SchemeTolerance(output, scales, weights, files) : null;

    public override int RowQuantum(int columns) => _blockRows;

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var tolerances = new double[expected.Length];
        var group = columns / _groups;
        for (var i = 0; i < rows.Count;)
        {
            var height = (int)Math.Min(_blockRows - (rows[i] % _blockRows), rows.Count - i);
            var scales = Scales(rows[i] / _blockRows);
            for (var g = 0; g < _groups; g++)
            {
                OfBlock(expected, tolerances, (i * columns) + (g * group), height, group, columns, scales[g], Zero(rows[i], g));
            }

            i += height;
        }

        return tolerances;
    }

    private static StoredTensor? Companion(TensorSource output, string name) =>
        output.Inputs.FirstOrDefault(t => t.Name.EndsWith("." + name, StringComparison.Ordinal));

    private double[] Scales(long row)
    {
        var width = _scales.Type.Bits() / 8;
        var (stored, values) = (new byte[_groups * width], new double[_groups]);
        _files.Read(_scales, row * stored.Length, stored);
        switch (_scales.Type)
        {
            case TensorType.U8:
                return Array.ConvertAll(stored, b => Math.ScaleB(1, b - 127));
            case TensorType.F8_E4M3:
                return Array.ConvertAll(stored, b => E4M3[b & 127]);
            default:
                PlainValues.Decode(_scales.Type, stored, values);
                return values;
        }
    }

    private int Zero(long row, int group) =>
        _zeros is null ? 0 : (int)((_zeroWords[(row / 8 * _groups) + group] >> (int)(4 * (row % 8))) & 15) - 8;

    private void OfBlock(
        double[] expected, double[] tolerances, int start, int height, int width, int columns, double scale, int zero)
    {
        var cells = Enumerable.Range(0, height * width).Select(i => start + (i / width * columns) + (i % width)).ToList();
        var (low, high) = (Math.Min(0, cells.Min(i => expected[i])), Math.Max(0, cells.Max(i => expected[i])));
        var isRight = Math.Max(high, -low) is var largest && IsRight(scale, low, high, largest, zero);
        var step = scale / (_divisor ?? 1);
        foreach (var i in cells)
        {
            var (x, slack) = (expected[i] / step, Slack * largest / step);
            tolerances[i] = !isRight ? double.NaN : Math.Max(
                Math.Abs((Rounded(x - slack, zero) * step) - expected[i]), Math.Abs((Rounded(x + slack, zero) * step) - expected[i]))
                + (Slack * largest);
        }
    }

    private bool IsRight(double scale, double low, double high, double largest, int zero)
    {
        switch (_scales.Type)
        {
            case TensorType.U8:
                return largest == 0 ? scale <= 1
                    : scale == PowerOfTwo(largest * (1 - Slack)) || scale == PowerOfTwo(largest * (1 + Slack));
            case TensorType.F8_E4M3:
                // The value comes in 16 bits or more, and the scale has four.
                var wanted = Math.Min(448, largest / 6 * _divisor!.Value);
                return _divisor * largest <= 448 * 6 * (1 + (1.0 / 128))
                    && (scale == 0.125 || Math.Abs(scale - wanted) <= (wanted * (1.0 / 16 + 1.0 / 256)) + Math.ScaleB(1, -10))
                    && (wanted <= 0.125 || scale > 0.125 || Math.Abs(scale - wanted) <= wanted / 16);
            default:
                var exact = _zeros is null ? largest / (_isFloat ? 448 : _bits == 8 ? 127.5 : 7.5) : (high - low) / 15;
                var ulp = PlainValues.Ulp(_scales.Type, exact);
                var zeroIsRight = _zeros is null || exact == 0
                    || Math.Abs(Math.Clamp(-8 - (low / exact), -8, 7) - zero) <= 0.5 + (1.0 / 8);
                return zeroIsRight && (Math.Abs(scale - exact) <= (ulp * (_zeros is null ? 0.5 : 1.5)) + (Slack * exact)
                    || (PlainValues.Round(_scales.Type, exact) == 0 && scale is > 0 and <= 0.01));
        }
    }

    private double PowerOfTwo(double largest)
    {
        var exponent = Math.ILogB(largest);
        return Math.ScaleB(1, Math.Max(exponent + (Math.ScaleB(largest, -exponent) >= 1.75 ? 1 : 0) - (_bits == 8 ? 8 : 2), -127));
    }

    // The value of a code, without its scale.
    private double Rounded(double x, int zero)
    {
        if (!_isFloat)
        {
            return Math.Round(Math.Clamp(x + zero, -Math.ScaleB(1, _bits - 1), Math.ScaleB(1, _bits - 1) - 1)) - zero;
        }

        var numbers = _bits == 8 ? E4M3 : E2M1;
        var magnitude = Math.Min(Math.Abs(x), numbers[^1]);
        var above = Array.FindIndex(numbers, n => n >= magnitude);
        var below = Math.Max(above - 1, 0);
        var isBelow = magnitude - numbers[below] < numbers[above] - magnitude
            || (magnitude - numbers[below] == numbers[above] - magnitude && below % 2 == 0);
        return Math.CopySign(numbers[isBelow ? below : above], x);
    }
}

/// <summary>For a stack of matrices whose parts are stored one by one: that of each part; null for one of plain numbers.</summary>
internal sealed class StackedTolerance(StackedSource stack, Func<TensorSource, QuantizationTolerance?> of) : QuantizationTolerance
{
    private readonly Dictionary<int, QuantizationTolerance?> _parts = [];

    public override int RowQuantum(int columns) => stack.IsTransposed ? stack.PartColumns
        : Part(0)?.RowQuantum(columns) is var quantum && stack.PartRows % (quantum ?? 1) == 0 ? quantum ?? 1 : stack.PartRows;

    public override double[] For(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        if (!stack.IsTransposed)
        {
            return OfRows(rows, expected, actual, columns);
        }

        var tolerances = new double[expected.Length];
        var (inputs, outputs) = (stack.PartColumns, stack.MatrixRows);
        for (var i = 0; i < rows.Count; i += inputs)
        {
            var start = i * outputs;
            var turned = OfRows(
                RowSet.Range(rows[i] / inputs * outputs, outputs), Turned(expected, start), Turned(actual, start), inputs);
            for (var k = 0; k < turned.Length; k++)
            {
                tolerances[start + (k % inputs * outputs) + (k / inputs)] = turned[k];
            }
        }

        return tolerances;

        double[] Turned(double[] values, int start) =>
            [.. Enumerable.Range(0, inputs * outputs).Select(k => values[start + (k % inputs * outputs) + (k / inputs)])];
    }

    private double[] OfRows(IReadOnlyList<long> rows, double[] expected, double[] actual, int columns)
    {
        var tolerances = new double[expected.Length];
        for (var i = 0; i < rows.Count;)
        {
            var part = (int)(rows[i] / stack.PartRows);
            var mine = rows.Skip(i).TakeWhile(r => r / stack.PartRows == part).Select(r => r % stack.PartRows).ToList();
            var range = new Range(i * columns, (i + mine.Count) * columns);
            var result = Part(part)?.For(mine, expected[range], actual[range], columns)
                ?? Array.ConvertAll(expected[range], v => 0.5 * PlainValues.Ulp(stack.Type, v));
            result.CopyTo(tolerances, range.Start.Value);
            i += mine.Count;
        }

        return tolerances;
    }

    private QuantizationTolerance? Part(int part)
    {
        lock (_parts)
        {
            return _parts.TryGetValue(part, out var known) ? known : _parts[part] = of(stack.Parts[part]);
        }
    }
}
