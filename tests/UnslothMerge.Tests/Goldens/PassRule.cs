namespace UnslothMerge.Tests.Goldens;

/// <summary>The rule that every merged element is judged by: |actual − truth| ≤ 0.5 ulp(dtype at truth) + 2e-6 · max|truth of the
/// tensor|.</summary>
internal static class PassRule
{
    /// <summary>Compares a saved model with the truth of its case: names, dtypes, shapes and values.</summary>
    public static void Check(GoldenCase @case, string output)
    {
        using var files = new InputFiles();
        var actual = Checkpoint.Open(output);
        var truth = SafetensorsFile.Open(Path.Combine(@case.Folder, "truth.safetensors"));
        Assert.Equal(truth.Tensors.Select(t => t.Name).Concat(@case.Names("same")).Order(StringComparer.Ordinal),
            actual.Tensors.Select(t => t.Name).Order(StringComparer.Ordinal));
        foreach (var expected in truth.Tensors)
        {
            var tensor = actual.Find(expected.Name)!;
            Assert.Equal(@case.TypeOf(tensor.Name) ?? tensor.Type, tensor.Type);
            Assert.Equal(expected.Shape, tensor.Shape);
            Check(tensor.Name, tensor.Type, files.ReadAll(tensor), files.ReadAll(expected));
        }
    }

    private static void Check(string name, TensorType type, byte[] actual, byte[] truth)
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
