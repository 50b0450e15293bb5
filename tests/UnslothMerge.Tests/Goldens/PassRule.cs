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
            var bound = (0.5 * PlainValues.Ulp(type, expected[i])) + slack;
            Assert.True(Math.Abs(values[i] - expected[i]) <= bound, $"{name}[{i}]: {values[i]} instead of {expected[i]} (±{bound})");
        }
    }

    /// <summary>Values by the BCL's own conversions, not by the kernels under test.</summary>
    public static double[] Decode(TensorType type, byte[] bytes)
    {
        var values = new double[bytes.Length * 8 / type.Bits()];
        PlainValues.Decode(type, bytes, values);
        return values;
    }
}
