namespace UnslothMerge.Simd;

/// <summary>Sixteen fp32 lanes, the unit in which every kernel works. Each implementation holds them in as many registers as its
/// instruction set needs (one of 512 bits, two of 256 or four of 128), so a kernel is written once, the JIT specialises it, and every width
/// computes the same bits.</summary>
/// <remarks>
/// "Bits" in a name means that the lanes are taken as 32-bit unsigned integers. Everything else is IEEE 754 fp32,
/// each operation rounded once to nearest even.
/// </remarks>
internal unsafe interface ILanes<TSelf>
    where TSelf : unmanaged, ILanes<TSelf>
{
    /// <summary>Lanes in one value, and the number of partial sums in <see cref="TileStatistics"/>.</summary>
    const int Count = 16;

    /// <summary>Rows of the LoRA micro-kernel: as many accumulators as the registers hold. 1 to 8.</summary>
    static abstract int LoraRows { get; }

    /// <summary>Groups of sixteen columns in the LoRA micro-kernel: 1 or 2.</summary>
    static abstract int LoraGroups { get; }

    static abstract TSelf Broadcast(float value);

    static abstract TSelf BroadcastBits(uint bits);

    static abstract TSelf Load(float* source);

    /// <summary>Sixteen unsigned 16-bit integers, widened with zeros.</summary>
    static abstract TSelf LoadUInt16(byte* source);

    /// <summary>Sixteen unsigned bytes, widened with zeros.</summary>
    static abstract TSelf WidenBytes(Vector128<byte> bytes);

    /// <summary>Sixteen doubles, each rounded once.</summary>
    static abstract TSelf LoadDouble(byte* source);

    /// <summary>Entries of <paramref name="table16"/> for the sixteen 4-bit codes in eight bytes, high nibble first.</summary>
    static abstract TSelf LookUpNibbles(ulong packed, float* table16);

    /// <summary>The entries of <paramref name="table16"/> whose indices are the low four bits of each lane.</summary>
    static abstract TSelf LookUp(TSelf indices, float* table16);

    /// <summary>True if <see cref="LookUpWide"/> is one permutation.</summary>
    static virtual bool HasWideTables => false;

    /// <summary>The entries of <paramref name="table32"/> whose indices are the low five bits of each lane.</summary>
    static virtual TSelf LookUpWide(TSelf indices, float* table32) => NibbleTable.LookUp(indices, table32, 31);

    static abstract void Store(TSelf value, float* destination);

    /// <summary>Stores the low 16 bits of each lane. The high ones must be zero.</summary>
    static abstract void StoreUInt16(TSelf bits, byte* destination);

    /// <summary>The low eight bits of each lane. The high ones must be zero.</summary>
    static abstract Vector128<byte> NarrowToBytes(TSelf bits);

    static abstract TSelf Add(TSelf left, TSelf right);

    static abstract TSelf Subtract(TSelf left, TSelf right);

    static abstract TSelf Multiply(TSelf left, TSelf right);

    static abstract TSelf Divide(TSelf left, TSelf right);

    /// <summary>left · right + addend, rounded once, on every instruction set.</summary>
    static abstract TSelf FusedMultiplyAdd(TSelf left, TSelf right, TSelf addend);

    static abstract TSelf AddBits(TSelf left, TSelf right);

    static abstract TSelf SubtractBits(TSelf left, TSelf right);

    static abstract TSelf AndBits(TSelf left, TSelf right);

    static abstract TSelf OrBits(TSelf left, TSelf right);

    static abstract TSelf MinBits(TSelf left, TSelf right);

    static abstract TSelf MaxBits(TSelf left, TSelf right);

    static abstract TSelf ShiftLeftBits(TSelf value, int count);

    static abstract TSelf ShiftRightBits(TSelf value, int count);

    /// <summary>All ones in the lanes where left &gt; right as unsigned integers, zero elsewhere.</summary>
    static abstract TSelf GreaterThanBits(TSelf left, TSelf right);

    /// <summary>All ones in the lanes where left &gt; right as numbers, zero elsewhere and for NaN.</summary>
    static abstract TSelf GreaterThan(TSelf left, TSelf right);

    /// <summary>Takes a lane of <paramref name="chosen"/> where the mask is all ones, else of <paramref name="other"/>.</summary>
    static abstract TSelf Select(TSelf mask, TSelf chosen, TSelf other);
}
