namespace UnslothMerge.Gpu;

/// <summary>Compares two bfloat16 models, one of them from a device.</summary>
internal readonly record struct SameModels(long Values, long Differing)
{
    /// <summary>Compares: two results that each are within 0.5 ulp + 2e-6 · max|W| of the truth are within twice that of each
    /// other.</summary>
    public static SameModels Check(string expected, string actual)
    {
        using var files = new InputFiles();
        var (a, b) = (Checkpoint.Open(expected), Checkpoint.Open(actual));
        var (values, differing) = (0L, 0L);
        Parallel.ForEach(a.Tensors, tensor =>
        {
            var other = b.Find(tensor.Name) ?? throw new InvalidOperationException($"{tensor.Name} is missing.");
            Interlocked.Add(ref values, tensor.Shape.Count());
            Interlocked.Add(ref differing, Compare(tensor.Name, Numbers(tensor), Numbers(other)));
        });
        return new SameModels(values, differing);

        ReadOnlySpan<ushort> Numbers(StoredTensor tensor) => MemoryMarshal.Cast<byte, ushort>(files.ReadAll(tensor));
    }

    public override string ToString() =>
        FormattableString.Invariant($"{Differing} of {Values} values differ in their last bit ({(double)Differing / Values:P4})");

    private static long Compare(string name, ReadOnlySpan<ushort> a, ReadOnlySpan<ushort> b)
    {
        var largest = 0f;
        foreach (var value in a)
        {
            largest = Math.Max(largest, Math.Abs(Widen(value)));
        }

        var differing = 0L;
        for (var i = a.CommonPrefixLength(b); i < a.Length; i += 1 + a[(i + 1)..].CommonPrefixLength(b[(i + 1)..]))
        {
            differing++;
            double x = Widen(a[i]), y = Widen(b[i]);
            var ulp = Math.ScaleB(1, Math.ILogB(Math.Max(Math.Abs(x), Math.ScaleB(1, -126))) - 7);
            if (!(Math.Abs(x - y) <= ulp + (4e-6 * largest)))
            {
                throw new InvalidOperationException($"{name}[{i}] is {y} instead of {x}.");
            }
        }

        return differing;
    }

    private static float Widen(ushort value) => BitConverter.UInt32BitsToSingle((uint)value << 16);
}
