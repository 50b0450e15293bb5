namespace UnslothMerge.Bench.Generating;

/// <summary>
/// Normally distributed numbers around 0, encoded once and repeated from ever other places: looks random, costs no more than the writing.
/// The same for every run.
/// </summary>
internal sealed class RandomBlock
{
    private const int Values = 2 * 1024 * 1024;

    // A prime, so that repetitions in different tensors begin at different places.
    private const int Stride = 104729;

    private readonly byte[] _bytes;
    private readonly int _width;
    private long _next;

    /// <summary>Makes a block of BF16, F16 or F32.</summary>
    public RandomBlock(TensorType type, double deviation, int seed)
    {
        _width = type.Bits() / 8;
        var random = new Random(seed);
        var values = new float[Values];
        for (var i = 0; i < values.Length; i += 2)
        {
            var radius = deviation * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble()));
            var (sine, cosine) = Math.SinCos(Math.Tau * random.NextDouble());
            (values[i], values[i + 1]) = ((float)(radius * cosine), (float)(radius * sine));
        }

        _bytes = type switch
        {
            TensorType.F32 => MemoryMarshal.AsBytes<float>(values).ToArray(),
            TensorType.F16 => MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, v => (Half)v)).ToArray(),
            TensorType.BF16 => MemoryMarshal.AsBytes<ushort>(
                Array.ConvertAll(values, v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))).ToArray(),
            _ => throw new ArgumentOutOfRangeException(nameof(type), type, "Models are made as BF16, F16 or F32."),
        };
    }

    /// <summary>The next numbers, as many bytes as are wanted or as are left of the block.</summary>
    public ReadOnlyMemory<byte> Take(long wanted)
    {
        var start = (int)(_next % Values) * _width;
        var taken = (int)Math.Min(wanted, _bytes.Length - start);
        _next += (taken / _width) + Stride;
        return _bytes.AsMemory(start, taken);
    }
}
