using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in sixteen floats, for machines without vectors and as the reference for the others.</summary>
[InlineArray(16)]
internal unsafe struct LanesScalar : ILanes<LanesScalar>
{
    private float _lane;

    public static int LoraRows => 1;

    public static int LoraGroups => 1;

    private static int Count => ILanes<LanesScalar>.Count;

    public static LanesScalar Broadcast(float value)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = value;
        }

        return result;
    }

    public static LanesScalar BroadcastBits(uint bits) => Broadcast(BitConverter.UInt32BitsToSingle(bits));

    public static LanesScalar Load(float* source)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = source[lane];
        }

        return result;
    }

    public static LanesScalar LoadUInt16(byte* source)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Unsafe.ReadUnaligned<ushort>(source + (lane * sizeof(ushort))));
        }

        return result;
    }

    public static LanesScalar WidenBytes(Vector128<byte> bytes)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(bytes[lane]);
        }

        return result;
    }

    public static LanesScalar LoadDouble(byte* source)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = (float)Unsafe.ReadUnaligned<double>(source + (lane * sizeof(double)));
        }

        return result;
    }

    public static LanesScalar LookUpNibbles(ulong packed, float* table16)
    {
        float* values = stackalloc float[Count];
        NibbleTable.LookUp(packed, table16, values);
        return Load(values);
    }

    public static LanesScalar LookUp(LanesScalar indices, float* table16)
    {
        float* values = stackalloc float[Count];
        Store(indices, values);
        NibbleTable.LookUp((uint*)values, table16, values);
        return Load(values);
    }

    public static void Store(LanesScalar value, float* destination)
    {
        for (int lane = 0; lane < Count; lane++)
        {
            destination[lane] = value[lane];
        }
    }

    public static void StoreUInt16(LanesScalar bits, byte* destination)
    {
        for (int lane = 0; lane < Count; lane++)
        {
            Unsafe.WriteUnaligned(destination + (lane * sizeof(ushort)), (ushort)Bits(bits[lane]));
        }
    }

    public static Vector128<byte> NarrowToBytes(LanesScalar bits)
    {
        byte* narrow = stackalloc byte[Count];
        for (int lane = 0; lane < Count; lane++)
        {
            narrow[lane] = (byte)Bits(bits[lane]);
        }

        return Vector128.Load(narrow);
    }

    public static LanesScalar Add(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = left[lane] + right[lane];
        }

        return result;
    }

    public static LanesScalar Subtract(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = left[lane] - right[lane];
        }

        return result;
    }

    public static LanesScalar Multiply(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = left[lane] * right[lane];
        }

        return result;
    }

    public static LanesScalar Divide(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = left[lane] / right[lane];
        }

        return result;
    }

    public static LanesScalar FusedMultiplyAdd(LanesScalar left, LanesScalar right, LanesScalar addend)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = MathF.FusedMultiplyAdd(left[lane], right[lane], addend[lane]);
        }

        return result;
    }

    public static LanesScalar AddBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(left[lane]) + Bits(right[lane]));
        }

        return result;
    }

    public static LanesScalar SubtractBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(left[lane]) - Bits(right[lane]));
        }

        return result;
    }

    public static LanesScalar AndBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(left[lane]) & Bits(right[lane]));
        }

        return result;
    }

    public static LanesScalar OrBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(left[lane]) | Bits(right[lane]));
        }

        return result;
    }

    public static LanesScalar MinBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Math.Min(Bits(left[lane]), Bits(right[lane])));
        }

        return result;
    }

    public static LanesScalar MaxBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Math.Max(Bits(left[lane]), Bits(right[lane])));
        }

        return result;
    }

    public static LanesScalar ShiftLeftBits(LanesScalar value, int count)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(value[lane]) << count);
        }

        return result;
    }

    public static LanesScalar ShiftRightBits(LanesScalar value, int count)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(value[lane]) >> count);
        }

        return result;
    }

    public static LanesScalar GreaterThanBits(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(Bits(left[lane]) > Bits(right[lane]) ? uint.MaxValue : 0);
        }

        return result;
    }

    public static LanesScalar GreaterThan(LanesScalar left, LanesScalar right)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = BitConverter.UInt32BitsToSingle(left[lane] > right[lane] ? uint.MaxValue : 0);
        }

        return result;
    }

    public static LanesScalar Select(LanesScalar mask, LanesScalar chosen, LanesScalar other)
    {
        LanesScalar result = default;
        for (int lane = 0; lane < Count; lane++)
        {
            result[lane] = Bits(mask[lane]) != 0 ? chosen[lane] : other[lane];
        }

        return result;
    }

    private static uint Bits(float value) => BitConverter.SingleToUInt32Bits(value);
}
