namespace UnslothMerge.Tests.Goldens;

/// <summary>The rule that exports are judged by: codes and scales are the rounding of the exact values, or of values as near to them as
/// fp32 arithmetic comes; formulas of compressed-tensors, in double.</summary>
internal sealed class ExportRule(JsonObject quantization, TensorType half)
{
    private static readonly double[] Fp4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

    private static readonly double[] E4M3 = [.. Enumerable.Range(0, 127).Select(c =>
        c < 8 ? Math.ScaleB(c, -9) : Math.ScaleB(8 + (c & 7), (c >> 3) - 10))];

    private readonly JsonObject _weights = (JsonObject)((JsonObject)quantization["config_groups"]!).Single().Value!["weights"]!;

    private int Bits => (int)_weights["num_bits"]!;

    private bool IsFloat => (string)_weights["type"]! == "float";

    private string Strategy => (string)_weights["strategy"]!;

    private bool IsSymmetric => (bool)_weights["symmetric"]!;

    private bool IsPowerOfTwo => (string?)_weights["scale_dtype"] == "torch.uint8";

    /// <summary>Checks the tensors of a module (by the ends of their names) against the exact values [rows, columns], which the merge may
    /// miss by <paramref name="delta"/>. Untouched values come in the 16-bit dtype.</summary>
    public void Check(string module, Dictionary<string, byte[]> stored, double[] exact, int columns, double delta, bool isUntouched)
    {
        var rows = exact.Length / columns;
        var block = _weights["block_structure"] is JsonArray b ? (int)b[0]! : 1;
        var group = Strategy switch { "channel" => columns, "block" => 128, _ => (int)_weights["group_size"]! };
        var groups = columns / group;
        var divisor = stored.TryGetValue("weight_global_scale", out var global) ? MemoryMarshal.Read<float>(global) : 1;
        var scales = Scales(stored["weight_scale"]);
        var codes = Codes(stored.GetValueOrDefault("weight_packed") ?? stored["weight"], exact.Length);
        for (var r = 0; r < rows; r += block)
        {
            for (var g = 0; g < groups; g++)
            {
                var cells = Enumerable.Range(r, Math.Min(block, rows - r))
                    .SelectMany(i => Enumerable.Range((i * columns) + (g * group), group)).ToList();
                var (low, high) = (Math.Min(0, cells.Min(i => exact[i])), Math.Max(0, cells.Max(i => exact[i])));
                var scale = scales[(r / block * groups) + g];
                var zero = IsSymmetric ? 0 : Zero(stored["weight_zero_point"], r, g, groups);
                var where = $"{module} [{r}, {g}]";
                CheckScale(where, scale, zero, low, high, divisor, delta, isUntouched);
                foreach (var i in cells)
                {
                    var x = exact[i] / (scale / divisor);
                    var slack = (Math.Abs(x) * Math.ScaleB(1, -22)) + (delta / (scale / divisor));
                    var (least, most) = (Rounded(x - slack, zero), Rounded(x + slack, zero));
                    Assert.True(
                        codes[i] >= least && codes[i] <= most, $"{where}, element {i}: code {codes[i]} instead of {least} to {most}");
                }
            }
        }
    }

    private void CheckScale(string where, double scale, int zero, double low, double high, double divisor, double delta, bool isUntouched)
    {
        var most = Math.Max(-low, high);
        var (least, largest) = IsSymmetric
            ? (Symmetric(most - delta, divisor, isUntouched), Symmetric(most + delta, divisor, isUntouched))
            : (Halved((high - low - (2 * delta)) / 15), Halved((high - low + (2 * delta)) / 15));
        var slack = isUntouched && IsSymmetric ? 0 : 1e-6 * largest;
        Assert.True(scale >= least - slack && scale <= largest + slack, $"{where}: scale {scale} instead of {least} to {largest}");
        if (!IsSymmetric && high > low)
        {
            Assert.InRange(zero, Math.Round(-8 - (low / scale)) - 1, Math.Round(-8 - (low / scale)) + 1);
        }
    }

    private double Symmetric(double largest, double divisor, bool isUntouched)
    {
        if (IsPowerOfTwo)
        {
            var exponent = Math.ILogB(largest) + (largest >= Math.ScaleB(1.75, Math.ILogB(largest)) ? 1 : 0) - (Bits == 8 ? 8 : 2);
            return largest <= 0 ? half == TensorType.F16 && isUntouched ? 1 : Math.ScaleB(1, -127) : Math.ScaleB(1, exponent);
        }

        if (Strategy == "tensor_group")
        {
            var sixth = isUntouched ? Round(half, (float)largest / 6) : (float)largest / 6;
            var product = (float)(sixth * (float)divisor);
            return Nearest(E4M3, Math.Min(product, 448)) is var s and > 0 ? s : 0.125;
        }

        return Halved((float)largest / (IsFloat ? 448f : Bits == 8 ? 127.5f : 7.5f));
    }

    private double Halved(double scale) =>
        Round(half, (float)scale) is var rounded && rounded == 0 ? Math.ScaleB(1, half == TensorType.F16 ? -10 : -7) : rounded;

    private static double Round(TensorType type, float value) => type == TensorType.F16 ? (double)(Half)value
        : BitConverter.SingleToUInt32Bits(value) is var bits
            ? BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000) : 0;

    private double[] Scales(byte[] stored) => IsPowerOfTwo ? [.. stored.Select(b => Math.ScaleB(1, b - 127))]
        : Strategy == "tensor_group" ? [.. stored.Select(b => E4M3[b & 127])]
        : PassRule.Decode(half, stored);

    // As numbers, without zero point. A zero has no sign here.
    private double[] Codes(byte[] stored, int count) => (IsFloat, Bits) switch
    {
        (true, 8) => [.. stored.Select(b => b < 128 ? E4M3[b] : -E4M3[b & 127])],
        (true, _) => [.. Enumerable.Range(0, count).Select(i => Nibble(stored, i)).Select(n => n < 8 ? Fp4[n] : -Fp4[n & 7])],
        (false, 8) when (string)quantization["format"]! == "int-quantized" => [.. stored.Select(b => (double)(sbyte)b)],
        (false, 8) => [.. stored.Select(b => b - 128.0)],
        _ => [.. Enumerable.Range(0, count).Select(i => Nibble(stored, i) - 8.0)],
    };

    private static int Nibble(byte[] stored, int i) => (stored[i / 2] >> (4 * (i % 2))) & 15;

    private static int Zero(byte[] stored, int row, int group, int groups) =>
        (int)(MemoryMarshal.Cast<byte, uint>(stored)[(row / 8 * groups) + group] >> (4 * (row % 8)) & 15) - 8;

    private double Rounded(double x, int zero) => !IsFloat
        ? Math.Round(Math.Clamp(x + zero, -Math.ScaleB(1, Bits - 1), Math.ScaleB(1, Bits - 1) - 1))
        : Math.CopySign(Nearest(Bits == 8 ? E4M3 : Fp4, Math.Min(Math.Abs(x), Bits == 8 ? 448 : 6)), x);

    // A tie goes to the even place.
    private static double Nearest(double[] numbers, double x)
    {
        var above = Array.FindIndex(numbers, n => n >= x);
        var (low, high) = (numbers[Math.Max(above - 1, 0)], numbers[above]);
        return x - low < high - x || (x - low == high - x && above % 2 == 1) ? low : high;
    }
}
