using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace UnslothMerge.Kernels.Bench;

/// <summary>The LoRA product of one tile, beside the fp32 peak of this core.</summary>
public class LoraBenchmarks
{
    private const int Rows = 16;
    private const int Columns = 256;
    private const int PeakSteps = 10_000;
    private const int PeakChains = 12;

    private readonly Plane<float> _left = Fill.Random(Rows * 256, 1);
    private readonly Plane<float> _right = Fill.Random(256 * Columns, 2);
    private readonly Plane<float> _delta = Fill.Random(Rows * Columns, 3);

    [Params(8, 16, 64, 256)]
    public int Rank { get; set; }

    [Benchmark, Work("GFLOP/s", 2.0 * Rows * Columns, perRank: true)]
    public void Accumulate() => LoraKernel.Accumulate(_left.Span, _right.Span, _delta.Span, Rows, Columns, Rank, Columns);

    /// <summary>Nothing but fused multiply-adds, in enough chains to hide their latency. The rate is for 512 bits, half of it for
    /// 256.</summary>
    [Benchmark(Baseline = true), Work("GFLOP/s", 2.0 * 16 * PeakChains * PeakSteps)]
    public float Peak() =>
        Vector512.IsHardwareAccelerated ? Peak512(PeakSteps) : Peak256(PeakSteps) + Peak256(PeakSteps);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Peak512(int steps)
    {
        Vector512<float> x = Vector512.Create(0.999f), y = Vector512.Create(0.001f);
        Vector512<float> a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
        for (int step = 0; step < steps; step++)
        {
            a = Vector512.FusedMultiplyAdd(a, x, y);
            b = Vector512.FusedMultiplyAdd(b, x, y);
            c = Vector512.FusedMultiplyAdd(c, x, y);
            d = Vector512.FusedMultiplyAdd(d, x, y);
            e = Vector512.FusedMultiplyAdd(e, x, y);
            f = Vector512.FusedMultiplyAdd(f, x, y);
            g = Vector512.FusedMultiplyAdd(g, x, y);
            h = Vector512.FusedMultiplyAdd(h, x, y);
            i = Vector512.FusedMultiplyAdd(i, x, y);
            j = Vector512.FusedMultiplyAdd(j, x, y);
            k = Vector512.FusedMultiplyAdd(k, x, y);
            l = Vector512.FusedMultiplyAdd(l, x, y);
        }

        return Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Peak256(int steps)
    {
        Vector256<float> x = Vector256.Create(0.999f), y = Vector256.Create(0.001f);
        Vector256<float> a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x, k = x, l = x;
        for (int step = 0; step < steps; step++)
        {
            a = Vector256.FusedMultiplyAdd(a, x, y);
            b = Vector256.FusedMultiplyAdd(b, x, y);
            c = Vector256.FusedMultiplyAdd(c, x, y);
            d = Vector256.FusedMultiplyAdd(d, x, y);
            e = Vector256.FusedMultiplyAdd(e, x, y);
            f = Vector256.FusedMultiplyAdd(f, x, y);
            g = Vector256.FusedMultiplyAdd(g, x, y);
            h = Vector256.FusedMultiplyAdd(h, x, y);
            i = Vector256.FusedMultiplyAdd(i, x, y);
            j = Vector256.FusedMultiplyAdd(j, x, y);
            k = Vector256.FusedMultiplyAdd(k, x, y);
            l = Vector256.FusedMultiplyAdd(l, x, y);
        }

        return Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }
}
