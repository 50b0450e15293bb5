namespace UnslothMerge.Kernels.Bench;

/// <summary>Native memory on a cache line, as the executor's tiles have it. It lives as long as the process.</summary>
internal sealed unsafe class Plane<T>(int length)
    where T : unmanaged
{
    private readonly T* _memory = (T*)NativeMemory.AlignedAlloc((nuint)length * (nuint)sizeof(T), 64);

    public Span<T> Span => new(_memory, length);
}

internal static class Fill
{
    /// <summary>Values as weights have them: neither denormal nor huge.</summary>
    public static Plane<float> Random(int length, int seed)
    {
        var plane = new Plane<float>(length);
        var random = new Random(seed);
        foreach (ref float value in plane.Span)
        {
            value = random.NextSingle() - 0.5f;
        }

        return plane;
    }

    public static Plane<byte> RandomBytes(int length, int seed)
    {
        var plane = new Plane<byte>(length);
        new Random(seed).NextBytes(plane.Span);
        return plane;
    }
}
