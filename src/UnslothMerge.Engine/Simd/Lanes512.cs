using System.Runtime.Intrinsics.X86;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in one 512-bit register.</summary>
internal readonly unsafe struct Lanes512 : ILanes<Lanes512>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector512<float> _a;

    [MethodImpl(Inline)] private Lanes512(Vector512<float> value) => _a = value;

    [MethodImpl(Inline)] private Lanes512(Vector512<uint> bits) => _a = bits.AsSingle();

    /// <summary>8 × 2 accumulators of 32 registers: enough to hide the latency of two FMA units, few loads per FMA.</summary>
    public static int LoraRows => 8;

    public static int LoraGroups => 2;

    private Vector512<uint> A => _a.AsUInt32();

    [MethodImpl(Inline)] public static Lanes512 Broadcast(float value) => new(Vector512.Create(value));

    [MethodImpl(Inline)] public static Lanes512 BroadcastBits(uint bits) => new(Vector512.Create(bits));

    [MethodImpl(Inline)] public static Lanes512 Load(float* source) => new(Vector512.Load(source));

    [MethodImpl(Inline)] public static Lanes512 LoadUInt16(byte* source)
    {
        Vector256<ushort> packed = Vector256.Load((ushort*)source);
        return Avx512F.IsSupported
            ? new(Avx512F.ConvertToVector512UInt32(packed))
            : new(Vector512.Create(Vector256.WidenLower(packed), Vector256.WidenUpper(packed)));
    }

    [MethodImpl(Inline)] public static Lanes512 WidenBytes(Vector128<byte> bytes)
    {
        if (Avx512F.IsSupported)
        {
            return new(Avx512F.ConvertToVector512UInt32(bytes));
        }

        Vector128<ushort> lower = Vector128.WidenLower(bytes), upper = Vector128.WidenUpper(bytes);
        return new(Vector512.Create(
            Vector256.Create(Vector128.WidenLower(lower), Vector128.WidenUpper(lower)),
            Vector256.Create(Vector128.WidenLower(upper), Vector128.WidenUpper(upper))));
    }

    [MethodImpl(Inline)] public static Lanes512 LoadDouble(byte* source) =>
        new(Vector512.Narrow(Vector512.Load((double*)source), Vector512.Load((double*)source + 8)));

    [MethodImpl(Inline)] public static Lanes512 LookUpNibbles(ulong packed, float* table16)
    {
        if (!Avx512F.IsSupported)
        {
            return NibbleTable.LookUp<Lanes512>(packed, table16);
        }

        // The permutation uses the low four bits of an index only, so the nibbles need no mask.
        Vector512<uint> words = Vector512.Create(Vector256.Create((uint)packed), Vector256.Create((uint)(packed >> 32)));
        Vector512<uint> shifts = Vector512.Create(4u, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24);
        Vector512<uint> codes = Avx512F.ShiftRightLogicalVariable(words, shifts);
        return new(Avx512F.PermuteVar16x32(Vector512.Load(table16), codes.AsInt32()));
    }

    [MethodImpl(Inline)] public static Lanes512 LookUp(Lanes512 indices, float* table16) => Avx512F.IsSupported
        ? new(Avx512F.PermuteVar16x32(Vector512.Load(table16), indices.A.AsInt32()))
        : NibbleTable.LookUp(indices, table16, 15);

    public static bool HasWideTables => Avx512F.IsSupported;

    [MethodImpl(Inline)] public static Lanes512 LookUpWide(Lanes512 indices, float* table32) =>
        new(Avx512F.PermuteVar16x32x2(Vector512.Load(table32), indices.A.AsInt32(), Vector512.Load(table32 + 16)));

    [MethodImpl(Inline)] public static void Store(Lanes512 value, float* destination) => value._a.Store(destination);

    [MethodImpl(Inline)] public static void StoreUInt16(Lanes512 bits, byte* destination)
    {
        Vector256<ushort> packed = Avx512F.IsSupported
            ? Avx512F.ConvertToVector256UInt16(bits.A)
            : Vector256.Narrow(bits.A.GetLower(), bits.A.GetUpper());
        packed.Store((ushort*)destination);
    }

    [MethodImpl(Inline)] public static Vector128<byte> NarrowToBytes(Lanes512 bits)
    {
        if (Avx512F.IsSupported)
        {
            return Avx512F.ConvertToVector128Byte(bits.A);
        }

        Vector256<ushort> packed = Vector256.Narrow(bits.A.GetLower(), bits.A.GetUpper());
        return Vector128.Narrow(packed.GetLower(), packed.GetUpper());
    }

    [MethodImpl(Inline)] public static Lanes512 Add(Lanes512 left, Lanes512 right) => new(left._a + right._a);

    [MethodImpl(Inline)] public static Lanes512 Subtract(Lanes512 left, Lanes512 right) => new(left._a - right._a);

    [MethodImpl(Inline)] public static Lanes512 Multiply(Lanes512 left, Lanes512 right) => new(left._a * right._a);

    [MethodImpl(Inline)] public static Lanes512 Divide(Lanes512 left, Lanes512 right) => new(left._a / right._a);

    [MethodImpl(Inline)] public static Lanes512 FusedMultiplyAdd(Lanes512 left, Lanes512 right, Lanes512 addend) =>
        new(Vector512.FusedMultiplyAdd(left._a, right._a, addend._a));

    [MethodImpl(Inline)] public static Lanes512 AddBits(Lanes512 left, Lanes512 right) => new(left.A + right.A);

    [MethodImpl(Inline)] public static Lanes512 SubtractBits(Lanes512 left, Lanes512 right) => new(left.A - right.A);

    [MethodImpl(Inline)] public static Lanes512 AndBits(Lanes512 left, Lanes512 right) => new(left.A & right.A);

    [MethodImpl(Inline)] public static Lanes512 OrBits(Lanes512 left, Lanes512 right) => new(left.A | right.A);

    [MethodImpl(Inline)] public static Lanes512 MinBits(Lanes512 left, Lanes512 right) => new(Vector512.Min(left.A, right.A));

    [MethodImpl(Inline)] public static Lanes512 MaxBits(Lanes512 left, Lanes512 right) => new(Vector512.Max(left.A, right.A));

    [MethodImpl(Inline)] public static Lanes512 ShiftLeftBits(Lanes512 value, int count) => new(value.A << count);

    [MethodImpl(Inline)] public static Lanes512 ShiftRightBits(Lanes512 value, int count) => new(value.A >>> count);

    [MethodImpl(Inline)] public static Lanes512 GreaterThanBits(Lanes512 left, Lanes512 right) =>
        new(Vector512.GreaterThan(left.A, right.A));

    [MethodImpl(Inline)] public static Lanes512 GreaterThan(Lanes512 left, Lanes512 right) => new(Vector512.GreaterThan(left._a, right._a));

    [MethodImpl(Inline)] public static Lanes512 Select(Lanes512 mask, Lanes512 chosen, Lanes512 other) =>
        new(Vector512.ConditionalSelect(mask._a, chosen._a, other._a));
}
