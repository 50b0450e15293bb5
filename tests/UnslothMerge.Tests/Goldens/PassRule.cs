namespace UnslothMerge.Tests.Goldens;

/// <summary>The rule that every merged element is judged by: |actual − truth| ≤ 0.5 ulp(dtype at truth) + 2e-6 · max|truth of the
/// tensor|.</summary>
internal static class PassRule
{
    public static void Check(string name, TensorType type, byte[] actual, byte[] truth)
    {
        var expected = MemoryMarshal.Cast<byte, float>(truth);
        var values = Decode(type, actual);
        Assert.True(expected.Length == values.Length, $"{name}: {values.Length} elements instead of {expected.Length}");
        var slack = 0.0;
        foreach (var value in expected)
        {
            slack = Math.Max(slack, Math.Abs((double)value));
        }

        slack *= 2e-6;
        for (var i = 0; i < values.Length; i++)
        {
            var bound = (0.5 * Ulp(type, expected[i])) + slack;
            Assert.True(Math.Abs(values[i] - expected[i]) <= bound, $"{name}[{i}]: {values[i]} instead of {expected[i]} (±{bound})");
        }
    }

    /// <summary>Values by the BCL's own conversions, not by the kernels under test.</summary>
    public static double[] Decode(TensorType type, byte[] bytes) => type switch
    {
        TensorType.F32 => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(v => (double)v)],
        TensorType.F16 => [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(v => (double)v)],
        TensorType.BF16 =>
            [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(v => (double)BitConverter.UInt32BitsToSingle((uint)v << 16))],
        _ => throw new NotSupportedException(type.ToString()),
    };

    public static double Ulp(TensorType type, double value)
    {
        var (mantissa, smallest) = type switch { TensorType.BF16 => (8, -126), TensorType.F16 => (11, -14), _ => (24, -126) };
        return Math.ScaleB(1, Math.ILogB(Math.Max(Math.Abs(value), Math.ScaleB(1, smallest))) + 1 - mantissa);
    }
}
