using System.Runtime.Intrinsics.Arm;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in four 128-bit registers; .NET emulates them where the processor has no vectors.</summary>
internal readonly unsafe struct Lanes128 : ILanes<Lanes128>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector128<float> _a;
    private readonly Vector128<float> _b;
    private readonly Vector128<float> _c;
    private readonly Vector128<float> _d;

    [MethodImpl(Inline)]
    private Lanes128(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d)
    {
        _a = a;
        _b = b;
        _c = c;
        _d = d;
    }

    [MethodImpl(Inline)]
    private Lanes128(Vector128<uint> a, Vector128<uint> b, Vector128<uint> c, Vector128<uint> d)
        : this(a.AsSingle(), b.AsSingle(), c.AsSingle(), d.AsSingle())
    {
    }

    /// <summary>6 × 4 accumulators of Arm's 32 registers; x86 has 16.</summary>
    public static int LoraRows => AdvSimd.IsSupported ? 6 : 2;

    public static int LoraGroups => 1;

    private Vector128<uint> A => _a.AsUInt32();

    private Vector128<uint> B => _b.AsUInt32();

    private Vector128<uint> C => _c.AsUInt32();

    private Vector128<uint> D => _d.AsUInt32();

    [MethodImpl(Inline)] public static Lanes128 Broadcast(float value) => Repeat(Vector128.Create(value));

    [MethodImpl(Inline)] public static Lanes128 BroadcastBits(uint bits) => Repeat(Vector128.Create(bits).AsSingle());

    [MethodImpl(Inline)] private static Lanes128 Repeat(Vector128<float> lanes) => new(lanes, lanes, lanes, lanes);

    [MethodImpl(Inline)] public static Lanes128 Load(float* source) =>
        new(Vector128.Load(source), Vector128.Load(source + 4), Vector128.Load(source + 8), Vector128.Load(source + 12));

    [MethodImpl(Inline)]
    public static Lanes128 LoadUInt16(byte* source) => Widen(Vector128.Load((ushort*)source), Vector128.Load((ushort*)source + 8));

    [MethodImpl(Inline)]
    public static Lanes128 WidenBytes(Vector128<byte> bytes) => Widen(Vector128.WidenLower(bytes), Vector128.WidenUpper(bytes));

    [MethodImpl(Inline)] private static Lanes128 Widen(Vector128<ushort> lower, Vector128<ushort> upper) => new(
        Vector128.WidenLower(lower), Vector128.WidenUpper(lower), Vector128.WidenLower(upper), Vector128.WidenUpper(upper));

    [MethodImpl(Inline)] public static Lanes128 LoadDouble(byte* source)
    {
        double* values = (double*)source;
        return new(
            Vector128.Narrow(Vector128.Load(values), Vector128.Load(values + 2)),
            Vector128.Narrow(Vector128.Load(values + 4), Vector128.Load(values + 6)),
            Vector128.Narrow(Vector128.Load(values + 8), Vector128.Load(values + 10)),
            Vector128.Narrow(Vector128.Load(values + 12), Vector128.Load(values + 14)));
    }

    [MethodImpl(Inline)] public static Lanes128 LookUpNibbles(ulong packed, float* table16) =>
        NibbleTable.LookUp<Lanes128>(packed, table16);

    [MethodImpl(Inline)] public static Lanes128 LookUp(Lanes128 indices, float* table16) => NibbleTable.LookUp(indices, table16, 15);

    [MethodImpl(Inline)] public static void Store(Lanes128 value, float* destination)
    {
        value._a.Store(destination);
        value._b.Store(destination + 4);
        value._c.Store(destination + 8);
        value._d.Store(destination + 12);
    }

    [MethodImpl(Inline)] public static void StoreUInt16(Lanes128 bits, byte* destination)
    {
        Vector128.Narrow(bits.A, bits.B).Store((ushort*)destination);
        Vector128.Narrow(bits.C, bits.D).Store((ushort*)destination + 8);
    }

    [MethodImpl(Inline)] public static Vector128<byte> NarrowToBytes(Lanes128 bits) =>
        Vector128.Narrow(Vector128.Narrow(bits.A, bits.B), Vector128.Narrow(bits.C, bits.D));

    [MethodImpl(Inline)] public static Lanes128 Add(Lanes128 left, Lanes128 right) =>
        new(left._a + right._a, left._b + right._b, left._c + right._c, left._d + right._d);

    [MethodImpl(Inline)] public static Lanes128 Subtract(Lanes128 left, Lanes128 right) =>
        new(left._a - right._a, left._b - right._b, left._c - right._c, left._d - right._d);

    [MethodImpl(Inline)] public static Lanes128 Multiply(Lanes128 left, Lanes128 right) =>
        new(left._a * right._a, left._b * right._b, left._c * right._c, left._d * right._d);

    [MethodImpl(Inline)] public static Lanes128 Divide(Lanes128 left, Lanes128 right) =>
        new(left._a / right._a, left._b / right._b, left._c / right._c, left._d / right._d);

    [MethodImpl(Inline)] public static Lanes128 FusedMultiplyAdd(Lanes128 left, Lanes128 right, Lanes128 addend) =>
        new(Vector128.FusedMultiplyAdd(left._a, right._a, addend._a), Vector128.FusedMultiplyAdd(left._b, right._b, addend._b),
            Vector128.FusedMultiplyAdd(left._c, right._c, addend._c), Vector128.FusedMultiplyAdd(left._d, right._d, addend._d));

    [MethodImpl(Inline)] public static Lanes128 AddBits(Lanes128 left, Lanes128 right) =>
        new(left.A + right.A, left.B + right.B, left.C + right.C, left.D + right.D);

    [MethodImpl(Inline)] public static Lanes128 SubtractBits(Lanes128 left, Lanes128 right) =>
        new(left.A - right.A, left.B - right.B, left.C - right.C, left.D - right.D);

    [MethodImpl(Inline)] public static Lanes128 AndBits(Lanes128 left, Lanes128 right) =>
        new(left.A & right.A, left.B & right.B, left.C & right.C, left.D & right.D);

    [MethodImpl(Inline)] public static Lanes128 OrBits(Lanes128 left, Lanes128 right) =>
        new(left.A | right.A, left.B | right.B, left.C | right.C, left.D | right.D);

    [MethodImpl(Inline)] public static Lanes128 MinBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.Min(left.A, right.A), Vector128.Min(left.B, right.B), Vector128.Min(left.C, right.C), Vector128.Min(left.D, right.D));

    [MethodImpl(Inline)] public static Lanes128 MaxBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.Max(left.A, right.A), Vector128.Max(left.B, right.B), Vector128.Max(left.C, right.C), Vector128.Max(left.D, right.D));

    [MethodImpl(Inline)] public static Lanes128 ShiftLeftBits(Lanes128 value, int count) =>
        new(value.A << count, value.B << count, value.C << count, value.D << count);

    [MethodImpl(Inline)] public static Lanes128 ShiftRightBits(Lanes128 value, int count) =>
        new(value.A >>> count, value.B >>> count, value.C >>> count, value.D >>> count);

    [MethodImpl(Inline)] public static Lanes128 GreaterThanBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.GreaterThan(left.A, right.A), Vector128.GreaterThan(left.B, right.B),
            Vector128.GreaterThan(left.C, right.C), Vector128.GreaterThan(left.D, right.D));

    [MethodImpl(Inline)] public static Lanes128 GreaterThan(Lanes128 left, Lanes128 right) =>
        new(Vector128.GreaterThan(left._a, right._a), Vector128.GreaterThan(left._b, right._b),
            Vector128.GreaterThan(left._c, right._c), Vector128.GreaterThan(left._d, right._d));

    [MethodImpl(Inline)] public static Lanes128 Select(Lanes128 mask, Lanes128 chosen, Lanes128 other) =>
        new(Vector128.ConditionalSelect(mask._a, chosen._a, other._a), Vector128.ConditionalSelect(mask._b, chosen._b, other._b),
            Vector128.ConditionalSelect(mask._c, chosen._c, other._c), Vector128.ConditionalSelect(mask._d, chosen._d, other._d));
}
