using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;

namespace UnslothMerge.Simd;

/// <summary>Sixteen lanes in four 128-bit registers.</summary>
internal readonly unsafe struct Lanes128 : ILanes<Lanes128>
{
    private readonly Vector128<float> _first;
    private readonly Vector128<float> _second;
    private readonly Vector128<float> _third;
    private readonly Vector128<float> _fourth;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes128(Vector128<float> first, Vector128<float> second, Vector128<float> third, Vector128<float> fourth)
    {
        _first = first;
        _second = second;
        _third = third;
        _fourth = fourth;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Lanes128(Vector128<uint> first, Vector128<uint> second, Vector128<uint> third, Vector128<uint> fourth)
    {
        _first = first.AsSingle();
        _second = second.AsSingle();
        _third = third.AsSingle();
        _fourth = fourth.AsSingle();
    }

    /// <summary>6 × 4 accumulators of Arm's 32 registers; x86 has 16.</summary>
    public static int LoraRows => AdvSimd.IsSupported ? 6 : 2;

    public static int LoraGroups => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Broadcast(float value)
    {
        Vector128<float> lanes = Vector128.Create(value);
        return new(lanes, lanes, lanes, lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 BroadcastBits(uint bits)
    {
        Vector128<uint> lanes = Vector128.Create(bits);
        return new(lanes, lanes, lanes, lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Load(float* source) =>
        new(Vector128.Load(source),
            Vector128.Load(source + 4),
            Vector128.Load(source + 8),
            Vector128.Load(source + 12));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 LoadUInt16(byte* source)
    {
        Vector128<ushort> lower = Vector128.Load((ushort*)source);
        Vector128<ushort> upper = Vector128.Load((ushort*)source + 8);
        return new(
            Vector128.WidenLower(lower),
            Vector128.WidenUpper(lower),
            Vector128.WidenLower(upper),
            Vector128.WidenUpper(upper));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 WidenBytes(Vector128<byte> bytes)
    {
        Vector128<ushort> lower = Vector128.WidenLower(bytes), upper = Vector128.WidenUpper(bytes);
        return new(
            Vector128.WidenLower(lower),
            Vector128.WidenUpper(lower),
            Vector128.WidenLower(upper),
            Vector128.WidenUpper(upper));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 LoadDouble(byte* source)
    {
        double* values = (double*)source;
        return new(
            Vector128.Narrow(Vector128.Load(values), Vector128.Load(values + 2)),
            Vector128.Narrow(Vector128.Load(values + 4), Vector128.Load(values + 6)),
            Vector128.Narrow(Vector128.Load(values + 8), Vector128.Load(values + 10)),
            Vector128.Narrow(Vector128.Load(values + 12), Vector128.Load(values + 14)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 LookUpNibbles(ulong packed, float* table16)
    {
        float* values = stackalloc float[ILanes<Lanes128>.Count];
        NibbleTable.LookUp(packed, table16, values);
        return Load(values);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 LookUp(Lanes128 indices, float* table16)
    {
        float* values = stackalloc float[ILanes<Lanes128>.Count];
        Store(indices, values);
        NibbleTable.LookUp((uint*)values, table16, values);
        return Load(values);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(Lanes128 value, float* destination)
    {
        value._first.Store(destination);
        value._second.Store(destination + 4);
        value._third.Store(destination + 8);
        value._fourth.Store(destination + 12);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreUInt16(Lanes128 bits, byte* destination)
    {
        Vector128.Narrow(bits._first.AsUInt32(), bits._second.AsUInt32()).Store((ushort*)destination);
        Vector128.Narrow(bits._third.AsUInt32(), bits._fourth.AsUInt32()).Store((ushort*)destination + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<byte> NarrowToBytes(Lanes128 bits) =>
        Vector128.Narrow(
            Vector128.Narrow(bits._first.AsUInt32(), bits._second.AsUInt32()),
            Vector128.Narrow(bits._third.AsUInt32(), bits._fourth.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Add(Lanes128 left, Lanes128 right) =>
        new(left._first + right._first,
            left._second + right._second,
            left._third + right._third,
            left._fourth + right._fourth);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Subtract(Lanes128 left, Lanes128 right) =>
        new(left._first - right._first,
            left._second - right._second,
            left._third - right._third,
            left._fourth - right._fourth);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Multiply(Lanes128 left, Lanes128 right) =>
        new(left._first * right._first,
            left._second * right._second,
            left._third * right._third,
            left._fourth * right._fourth);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Divide(Lanes128 left, Lanes128 right) =>
        new(left._first / right._first,
            left._second / right._second,
            left._third / right._third,
            left._fourth / right._fourth);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 FusedMultiplyAdd(Lanes128 left, Lanes128 right, Lanes128 addend) =>
        new(Vector128.FusedMultiplyAdd(left._first, right._first, addend._first),
            Vector128.FusedMultiplyAdd(left._second, right._second, addend._second),
            Vector128.FusedMultiplyAdd(left._third, right._third, addend._third),
            Vector128.FusedMultiplyAdd(left._fourth, right._fourth, addend._fourth));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 AddBits(Lanes128 left, Lanes128 right) =>
        new(left._first.AsUInt32() + right._first.AsUInt32(),
            left._second.AsUInt32() + right._second.AsUInt32(),
            left._third.AsUInt32() + right._third.AsUInt32(),
            left._fourth.AsUInt32() + right._fourth.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 SubtractBits(Lanes128 left, Lanes128 right) =>
        new(left._first.AsUInt32() - right._first.AsUInt32(),
            left._second.AsUInt32() - right._second.AsUInt32(),
            left._third.AsUInt32() - right._third.AsUInt32(),
            left._fourth.AsUInt32() - right._fourth.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 AndBits(Lanes128 left, Lanes128 right) =>
        new(left._first.AsUInt32() & right._first.AsUInt32(),
            left._second.AsUInt32() & right._second.AsUInt32(),
            left._third.AsUInt32() & right._third.AsUInt32(),
            left._fourth.AsUInt32() & right._fourth.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 OrBits(Lanes128 left, Lanes128 right) =>
        new(left._first.AsUInt32() | right._first.AsUInt32(),
            left._second.AsUInt32() | right._second.AsUInt32(),
            left._third.AsUInt32() | right._third.AsUInt32(),
            left._fourth.AsUInt32() | right._fourth.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 MinBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.Min(left._first.AsUInt32(), right._first.AsUInt32()),
            Vector128.Min(left._second.AsUInt32(), right._second.AsUInt32()),
            Vector128.Min(left._third.AsUInt32(), right._third.AsUInt32()),
            Vector128.Min(left._fourth.AsUInt32(), right._fourth.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 MaxBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.Max(left._first.AsUInt32(), right._first.AsUInt32()),
            Vector128.Max(left._second.AsUInt32(), right._second.AsUInt32()),
            Vector128.Max(left._third.AsUInt32(), right._third.AsUInt32()),
            Vector128.Max(left._fourth.AsUInt32(), right._fourth.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 ShiftLeftBits(Lanes128 value, int count) =>
        new(value._first.AsUInt32() << count,
            value._second.AsUInt32() << count,
            value._third.AsUInt32() << count,
            value._fourth.AsUInt32() << count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 ShiftRightBits(Lanes128 value, int count) =>
        new(value._first.AsUInt32() >>> count,
            value._second.AsUInt32() >>> count,
            value._third.AsUInt32() >>> count,
            value._fourth.AsUInt32() >>> count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 GreaterThanBits(Lanes128 left, Lanes128 right) =>
        new(Vector128.GreaterThan(left._first.AsUInt32(), right._first.AsUInt32()),
            Vector128.GreaterThan(left._second.AsUInt32(), right._second.AsUInt32()),
            Vector128.GreaterThan(left._third.AsUInt32(), right._third.AsUInt32()),
            Vector128.GreaterThan(left._fourth.AsUInt32(), right._fourth.AsUInt32()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 GreaterThan(Lanes128 left, Lanes128 right) =>
        new(Vector128.GreaterThan(left._first, right._first),
            Vector128.GreaterThan(left._second, right._second),
            Vector128.GreaterThan(left._third, right._third),
            Vector128.GreaterThan(left._fourth, right._fourth));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Select(Lanes128 mask, Lanes128 chosen, Lanes128 other) =>
        new(Vector128.ConditionalSelect(mask._first, chosen._first, other._first),
            Vector128.ConditionalSelect(mask._second, chosen._second, other._second),
            Vector128.ConditionalSelect(mask._third, chosen._third, other._third),
            Vector128.ConditionalSelect(mask._fourth, chosen._fourth, other._fourth));
}
