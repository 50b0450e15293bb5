namespace UnslothMerge.Tests;

/// <summary>A tensor to put into a test's file.</summary>
internal sealed record TinyTensor(string Name, TensorType Type, long[] Shape, byte[] Bytes)
{
    public static implicit operator TinyTensor((string Name, Numbers Numbers) tensor) =>
        F32(tensor.Name, tensor.Numbers.Shape, Array.ConvertAll(tensor.Numbers.Values, v => (float)v));

    public static TinyTensor Of<T>(string name, TensorType type, long[] shape, params T[] values)
        where T : unmanaged => new(name, type, shape, MemoryMarshal.AsBytes(values.AsSpan()).ToArray());

    public static TinyTensor F32(string name, long[] shape, params float[] values) => Of(name, TensorType.F32, shape, values);

    public static TinyTensor BF16(string name, long[] shape, params ushort[] bits) => Of(name, TensorType.BF16, shape, bits);

    /// <summary>The factors of a module's LoRA.</summary>
    public static TinyTensor[] Lora(string module, Numbers a, Numbers b) =>
        [(module + ".lora_A.weight", a), (module + ".lora_B.weight", b)];

    /// <summary>Values that look like weights, the same for the same seed.</summary>
    public static TinyTensor Random(string name, long[] shape, int seed) => (name, new Random(seed).Scaled(0.05, shape));
}

/// <summary>An array of numbers that are fp32 values, with its shape.</summary>
internal sealed record Numbers(long[] Shape, double[] Values)
{
    /// <summary>An element; the last index goes over all dimensions that are left.</summary>
    public double this[params ReadOnlySpan<long> at]
    {
        get
        {
            var (place, rest) = (0L, (long)Values.Length);
            for (var i = 0; i < at.Length - 1; i++)
            {
                rest /= Shape[i];
                place += at[i] * rest;
            }

            return Values[place + at[^1]];
        }
    }

    public static Numbers Of(long[] shape, Func<int, double> value) =>
        new(shape, [.. Enumerable.Range(0, (int)shape.Count()).Select(i => (double)(float)value(i))]);

    /// <summary>Numbers by their index in each dimension.</summary>
    public static Numbers Of(long[] shape, Func<int[], double> value) => Of(shape, (int flat) =>
    {
        var index = new int[shape.Length];
        for (var (d, rest) = (shape.Length - 1, flat); d >= 0; rest /= (int)shape[d--])
        {
            index[d] = rest % (int)shape[d];
        }

        return value(index);
    });

    public static Numbers Zeros(params long[] shape) => new(shape, new double[shape.Count()]);

    /// <summary>Fails unless these are the values by the rule of the goldens for F32.</summary>
    public static void Near(IReadOnlyCollection<double> expected, double[] actual)
    {
        Assert.Equal(expected.Count, actual.Length);
        var slack = 2e-6 * expected.Max(Math.Abs);
        Assert.DoesNotContain(expected.Zip(actual).Index(),
            v => !(Math.Abs(v.Item.Second - v.Item.First) <= slack + (Math.Abs(v.Item.First) * 6e-8)));
    }
}

/// <summary>Random numbers as fp32 holds them.</summary>
internal static class RandomNumbers
{
    public static Numbers Numbers(this Random random, params long[] shape) => random.Scaled(1, shape);

    /// <summary>Numbers from -size to size.</summary>
    public static Numbers Scaled(this Random random, double size, params long[] shape) =>
        UnslothMerge.Tests.Numbers.Of(shape, (int _) => size * ((2 * random.NextDouble()) - 1));
}
