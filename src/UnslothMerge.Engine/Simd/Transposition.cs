using System.Runtime.Intrinsics.X86;

namespace UnslothMerge.Simd;

/// <summary>Transposes in L1.</summary>
internal static unsafe class Transposition
{
    /// <summary>Transposes a block [16, 16] to sixteen rows, a stride in floats apart.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Sixteen(float* block, float* transposed, nint stride)
    {
        for (int row = 0; row < 16; row += 8)
        {
            for (int column = 0; column < 16; column += 4)
            {
                float* from = block + (row * 16) + column;
                float* to = transposed + (column * stride) + row;
                if (Avx.IsSupported)
                {
                    EightByFour(from, to, stride);
                }
                else
                {
                    OneByOne(from, to, stride);
                }
            }
        }
    }

    /// <summary>Row i and row i + 4 share a register, so that nothing but loads crosses its halves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void EightByFour(float* from, float* to, nint stride)
    {
        Vector256<float> a = Vector256.Create(Vector128.Load(from), Vector128.Load(from + 64));
        Vector256<float> b = Vector256.Create(Vector128.Load(from + 16), Vector128.Load(from + 80));
        Vector256<float> c = Vector256.Create(Vector128.Load(from + 32), Vector128.Load(from + 96));
        Vector256<float> d = Vector256.Create(Vector128.Load(from + 48), Vector128.Load(from + 112));
        Vector256<float> abLow = Avx.UnpackLow(a, b), abHigh = Avx.UnpackHigh(a, b);
        Vector256<float> cdLow = Avx.UnpackLow(c, d), cdHigh = Avx.UnpackHigh(c, d);
        Avx.Shuffle(abLow, cdLow, 0x44).Store(to);
        Avx.Shuffle(abLow, cdLow, 0xEE).Store(to + stride);
        Avx.Shuffle(abHigh, cdHigh, 0x44).Store(to + (2 * stride));
        Avx.Shuffle(abHigh, cdHigh, 0xEE).Store(to + (3 * stride));
    }

    private static void OneByOne(float* from, float* to, nint stride)
    {
        for (int row = 0; row < 8; row++)
        {
            for (int column = 0; column < 4; column++)
            {
                to[(column * stride) + row] = from[(row * 16) + column];
            }
        }
    }
}
