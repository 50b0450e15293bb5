namespace UnslothMerge.Verification.References;

/// <summary>Decodes stored numbers to float64 by the BCL's conversions.</summary>
internal static class PlainValues
{
    public static void Decode(TensorType type, ReadOnlySpan<byte> bytes, Span<double> values)
    {
        switch (type)
        {
            case TensorType.F64: Convert<double>(bytes, values, v => v); break;
            case TensorType.F32: Convert<float>(bytes, values, v => v); break;
            case TensorType.F16: Convert<Half>(bytes, values, v => (double)v); break;
            case TensorType.BF16: Convert<ushort>(bytes, values, v => BitConverter.UInt32BitsToSingle((uint)v << 16)); break;
            case TensorType.I64: Convert<long>(bytes, values, v => v); break;
            case TensorType.I32: Convert<int>(bytes, values, v => v); break;
            case TensorType.U8: Convert<byte>(bytes, values, v => v); break;
            default: throw new NotSupportedException($"{type} does not hold plain numbers.");
        }
    }

    public static double[] ReadAll(InputFiles files, StoredTensor tensor)
    {
        var values = new double[checked((int)tensor.Shape.Count())];
        Decode(tensor.Type, files.ReadAll(tensor), values);
        return values;
    }

    /// <summary>The unit in the last place of a dtype at a value.</summary>
    public static double Ulp(TensorType type, double value)
    {
        var (digits, smallest) = type switch
        {
            TensorType.BF16 => (8, -126),
            TensorType.F16 => (11, -14),
            TensorType.F32 => (24, -126),
            _ => (53, -1022),
        };
        var exponent = Math.Max((int)((BitConverter.DoubleToInt64Bits(value) >> 52) & 0x7ff) - 1023, smallest) + 1 - digits;
        return exponent >= -1022 ? BitConverter.Int64BitsToDouble((exponent + 1023L) << 52) : double.Epsilon;
    }

    /// <summary>The nearest value of a dtype, ties to even.</summary>
    public static double Round(TensorType type, double value)
    {
        var ulp = Ulp(type, value);
        return Math.Round(value / ulp, MidpointRounding.ToEven) * ulp;
    }

    private static void Convert<T>(ReadOnlySpan<byte> bytes, Span<double> values, Func<T, double> convert)
        where T : unmanaged
    {
        var stored = MemoryMarshal.Cast<byte, T>(bytes);
        for (var i = 0; i < stored.Length; i++)
        {
            values[i] = convert(stored[i]);
        }
    }
}
