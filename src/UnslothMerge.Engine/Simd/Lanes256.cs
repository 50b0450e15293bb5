using System.Runtime.Intrinsics.X86;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in two 256-bit registers.</summary>
internal readonly unsafe struct Lanes256 : ILanes<Lanes256>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector256<float> _a;
    private readonly Vector256<float> _b;

    [MethodImpl(Inline)]
    private Lanes256(Vector256<float> a, Vector256<float> b)
    {
        _a = a;
        _b = b;
    }

    [MethodImpl(Inline)]
    private Lanes256(Vector256<uint> a, Vector256<uint> b)
        : this(a.AsSingle(), b.AsSingle())
    {
    }

    /// <summary>6 × 2 accumulators of 16 registers.</summary>
    public static int LoraRows => 6;

    public static int LoraGroups => 1;

    private Vector256<uint> A => _a.AsUInt32();

    private Vector256<uint> B => _b.AsUInt32();

    [MethodImpl(Inline)] public static Lanes256 Broadcast(float value) => Repeat(Vector256.Create(value));

    [MethodImpl(Inline)] public static Lanes256 BroadcastBits(uint bits) => Repeat(Vector256.Create(bits).AsSingle());

    [MethodImpl(Inline)] private static Lanes256 Repeat(Vector256<float> lanes) => new(lanes, lanes);

    [MethodImpl(Inline)] public static Lanes256 Load(float* source) => new(Vector256.Load(source), Vector256.Load(source + 8));

    [MethodImpl(Inline)] public static Lanes256 LoadUInt16(byte* source)
    {
        Vector256<ushort> packed = Vector256.Load((ushort*)source);
        return new(Vector256.WidenLower(packed), Vector256.WidenUpper(packed));
    }

    [MethodImpl(Inline)] public static Lanes256 WidenBytes(Vector128<byte> bytes)
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

    [MethodImpl(Inline)] public static Lanes256 LoadDouble(byte* source)
    {
        double* values = (double*)source;
        return new(
            Vector256.Narrow(Vector256.Load(values), Vector256.Load(values + 4)),
            Vector256.Narrow(Vector256.Load(values + 8), Vector256.Load(values + 12)));
    }

    [MethodImpl(Inline)] public static Lanes256 LookUpNibbles(ulong packed, float* table16)
    {
        if (!Avx2.IsSupported)
        {
            return NibbleTable.LookUp<Lanes256>(packed, table16);
        }

        // High nibble first, within each byte of a little-endian word.
        Vector256<uint> shifts = Vector256.Create(4u, 0, 12, 8, 20, 16, 28, 24);
        return new(
            LookUp(Avx2.ShiftRightLogicalVariable(Vector256.Create((uint)packed), shifts), table16),
            LookUp(Avx2.ShiftRightLogicalVariable(Vector256.Create((uint)(packed >> 32)), shifts), table16));
    }

    [MethodImpl(Inline)] public static Lanes256 LookUp(Lanes256 indices, float* table16) => Avx2.IsSupported
        ? new(LookUp(indices.A, table16), LookUp(indices.B, table16))
        : NibbleTable.LookUp(indices, table16, 15);

    [MethodImpl(Inline)] private static Vector256<float> LookUp(Vector256<uint> codes, float* table16)
    {
        // Each permutation uses the low three bits of a code; the fourth, moved to the sign, chooses between them.
        Vector256<float> low = Avx2.PermuteVar8x32(Vector256.Load(table16), codes.AsInt32());
        Vector256<float> high = Avx2.PermuteVar8x32(Vector256.Load(table16 + 8), codes.AsInt32());
        return Avx.BlendVariable(low, high, (codes << 28).AsSingle());
    }

    [MethodImpl(Inline)] public static void Store(Lanes256 value, float* destination)
    {
        value._a.Store(destination);
        value._b.Store(destination + 8);
    }

    [MethodImpl(Inline)]
    public static void StoreUInt16(Lanes256 bits, byte* destination) => Vector256.Narrow(bits.A, bits.B).Store((ushort*)destination);

    [MethodImpl(Inline)] public static Vector128<byte> NarrowToBytes(Lanes256 bits)
    {
        Vector256<ushort> packed = Vector256.Narrow(bits.A, bits.B);
        return Vector128.Narrow(packed.GetLower(), packed.GetUpper());
    }

    [MethodImpl(Inline)] public static Lanes256 Add(Lanes256 left, Lanes256 right) => new(left._a + right._a, left._b + right._b);

    [MethodImpl(Inline)] public static Lanes256 Subtract(Lanes256 left, Lanes256 right) => new(left._a - right._a, left._b - right._b);

    [MethodImpl(Inline)] public static Lanes256 Multiply(Lanes256 left, Lanes256 right) => new(left._a * right._a, left._b * right._b);

    [MethodImpl(Inline)] public static Lanes256 Divide(Lanes256 left, Lanes256 right) => new(left._a / right._a, left._b / right._b);

    [MethodImpl(Inline)] public static Lanes256 FusedMultiplyAdd(Lanes256 left, Lanes256 right, Lanes256 addend) =>
        new(Vector256.FusedMultiplyAdd(left._a, right._a, addend._a), Vector256.FusedMultiplyAdd(left._b, right._b, addend._b));

    [MethodImpl(Inline)] public static Lanes256 AddBits(Lanes256 left, Lanes256 right) => new(left.A + right.A, left.B + right.B);

    [MethodImpl(Inline)] public static Lanes256 SubtractBits(Lanes256 left, Lanes256 right) => new(left.A - right.A, left.B - right.B);

    [MethodImpl(Inline)] public static Lanes256 AndBits(Lanes256 left, Lanes256 right) => new(left.A & right.A, left.B & right.B);

    [MethodImpl(Inline)] public static Lanes256 OrBits(Lanes256 left, Lanes256 right) => new(left.A | right.A, left.B | right.B);

    [MethodImpl(Inline)] public static Lanes256 MinBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.Min(left.A, right.A), Vector256.Min(left.B, right.B));

    [MethodImpl(Inline)] public static Lanes256 MaxBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.Max(left.A, right.A), Vector256.Max(left.B, right.B));

    [MethodImpl(Inline)] public static Lanes256 ShiftLeftBits(Lanes256 value, int count) => new(value.A << count, value.B << count);

    [MethodImpl(Inline)] public static Lanes256 ShiftRightBits(Lanes256 value, int count) => new(value.A >>> count, value.B >>> count);

    [MethodImpl(Inline)] public static Lanes256 GreaterThanBits(Lanes256 left, Lanes256 right) =>
        new(Vector256.GreaterThan(left.A, right.A), Vector256.GreaterThan(left.B, right.B));

    [MethodImpl(Inline)] public static Lanes256 GreaterThan(Lanes256 left, Lanes256 right) =>
        new(Vector256.GreaterThan(left._a, right._a), Vector256.GreaterThan(left._b, right._b));

    [MethodImpl(Inline)] public static Lanes256 Select(Lanes256 mask, Lanes256 chosen, Lanes256 other) =>
        new(Vector256.ConditionalSelect(mask._a, chosen._a, other._a), Vector256.ConditionalSelect(mask._b, chosen._b, other._b));
}
