using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in two 256-bit registers.</summary>
internal readonly unsafe struct Lanes256 : ILanes<Lanes256>
{
    private readonly Vector256<float> _lower;
    private readonly Vector256<float> _upper;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes256(Vector256<float> lower, Vector256<float> upper)
    {
        _lower = lower;
        _upper = upper;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes256(Vector256<uint> lower, Vector256<uint> upper)
    {
        _lower = lower.AsSingle();
        _upper = upper.AsSingle();
    }

    /// <summary>6 × 2 accumulators of 16 registers.</summary>
    public static int LoraRows => 6;

    public static int LoraGroups => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Broadcast(float value)
    {
        Vector256<float> lanes = Vector256.Create(value);
        return new(lanes, lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 BroadcastBits(uint bits)
    {
        Vector256<uint> lanes = Vector256.Create(bits);
        return new(lanes, lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Load(float* source) =>
        new(Vector256.Load(source),
            Vector256.Load(source + 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 LoadUInt16(byte* source)
    {
        Vector256<ushort> packed = Vector256.Load((ushort*)source);
        return new(Vector256.WidenLower(packed), Vector256.WidenUpper(packed));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 WidenBytes(Vector128<byte> bytes)
    {
        if (Avx2.IsSupported)
        {
            return new(
                Avx2.ConvertToVector256Int32(bytes).AsUInt32(),
                Avx2.ConvertToVector256Int32(Vector128.CreateScalarUnsafe(bytes.AsUInt64()[1]).AsByte()).AsUInt32());
        }

        Vector128<ushort> lower = Vector128.WidenLower(bytes), upper = Vector128.WidenUpper(bytes);
        return new(
            Vector256.Create(Vector128.WidenLower(lower), Vector128.WidenUpper(lower)),
            Vector256.Create(Vector128.WidenLower(upper), Vector128.WidenUpper(upper)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 LoadDouble(byte* source)
    {
        double* values = (double*)source;
        return new(
            Vector256.Narrow(Vector256.Load(values), Vector256.Load(values + 4)),
            Vector256.Narrow(Vector256.Load(values + 8), Vector256.Load(values + 12)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 LookUpNibbles(ulong packed, float* table16)
    {
        if (!Avx2.IsSupported)
        {
            float* values = stackalloc float[ILanes<Lanes256>.Count];
            NibbleTable.LookUp(packed, table16, values);
            return Load(values);
        }

        // High nibble first, within each byte of a little-endian word.
        Vector256<uint> shifts = Vector256.Create(4u, 0, 12, 8, 20, 16, 28, 24);
        return new(
            LookUp(Avx2.ShiftRightLogicalVariable(Vector256.Create((uint)packed), shifts), table16),
            LookUp(Avx2.ShiftRightLogicalVariable(Vector256.Create((uint)(packed >> 32)), shifts), table16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 LookUp(Lanes256 indices, float* table16)
    {
        if (!Avx2.IsSupported)
        {
            float* values = stackalloc float[ILanes<Lanes256>.Count];
            Store(indices, values);
            NibbleTable.LookUp((uint*)values, table16, values);
            return Load(values);
        }

        return new(LookUp(indices._lower.AsUInt32(), table16), LookUp(indices._upper.AsUInt32(), table16));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> LookUp(Vector256<uint> codes, float* table16)
    {
        // Each permutation looks at the low three bits of a code; the fourth, moved to the sign, chooses between them.
        Vector256<float> low = Avx2.PermuteVar8x32(Vector256.Load(table16), codes.AsInt32());
        Vector256<float> high = Avx2.PermuteVar8x32(Vector256.Load(table16 + 8), codes.AsInt32());
        return Avx.BlendVariable(low, high, (codes << 28).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes256 value, float* destination)
    {
        value._lower.Store(destination);
        value._upper.Store(destination + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreUInt16(Lanes256 bits, byte* destination)
    {
        Vector256.Narrow(bits._lower.AsUInt32(), bits._upper.AsUInt32()).Store((ushort*)destination);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<byte> NarrowToBytes(Lanes256 bits)
    {
        Vector256<ushort> packed = Vector256.Narrow(bits._lower.AsUInt32(), bits._upper.AsUInt32());
        return Vector128.Narrow(packed.GetLower(), packed.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Add(Lanes256 left, Lanes256 right) =>
        new(left._lower + right._lower,
            left._upper + right._upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Subtract(Lanes256 left, Lanes256 right) =>
        new(left._lower - right._lower,
            left._upper - right._upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Multiply(Lanes256 left, Lanes256 right) =>
        new(left._lower * right._lower,
            left._upper * right._upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Divide(Lanes256 left, Lanes256 right) =>
        new(left._lower / right._lower,
            left._upper / right._upper);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 FusedMultiplyAdd(Lanes256 left, Lanes256 right, Lanes256 addend) =>
        new(Vector256.FusedMultiplyAdd(left._lower, right._lower, addend._lower),
            Vector256.FusedMultiplyAdd(left._upper, right._upper, addend._upper));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 AddBits(Lanes256 left, Lanes256 right) =>
        new(left._lower.AsUInt32() + right._lower.AsUInt32(),
            left._upper.AsUInt32() + right._upper.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 SubtractBits(Lanes256 left, Lanes256 right) =>
        new(left._lower.AsUInt32() - right._lower.AsUInt32(),
            left._upper.AsUInt32() - right._upper.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 AndBits(Lanes256 left, Lanes256 right) =>
        new(left._lower.AsUInt32() & right._lower.AsUInt32(),
            left._upper.AsUInt32() & right._upper.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 OrBits(Lanes256 left, Lanes256 right) =>
        new(left._lower.AsUInt32() | right._lower.AsUInt32(),
            left._upper.AsUInt32() | right._upper.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 MinBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.Min(left._lower.AsUInt32(), right._lower.AsUInt32()),
            Vector256.Min(left._upper.AsUInt32(), right._upper.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 MaxBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.Max(left._lower.AsUInt32(), right._lower.AsUInt32()),
            Vector256.Max(left._upper.AsUInt32(), right._upper.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 ShiftLeftBits(Lanes256 value, int count) =>
        new(value._lower.AsUInt32() << count,
            value._upper.AsUInt32() << count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 ShiftRightBits(Lanes256 value, int count) =>
        new(value._lower.AsUInt32() >>> count,
            value._upper.AsUInt32() >>> count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 GreaterThanBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.GreaterThan(left._lower.AsUInt32(), right._lower.AsUInt32()),
            Vector256.GreaterThan(left._upper.AsUInt32(), right._upper.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 GreaterThan(Lanes256 left, Lanes256 right) =>
        new(Vector256.GreaterThan(left._lower, right._lower),
            Vector256.GreaterThan(left._upper, right._upper));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Select(Lanes256 mask, Lanes256 chosen, Lanes256 other) =>
        new(Vector256.ConditionalSelect(mask._lower, chosen._lower, other._lower),
            Vector256.ConditionalSelect(mask._upper, chosen._upper, other._upper));
}
