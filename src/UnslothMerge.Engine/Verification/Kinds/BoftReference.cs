using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>BOFT: (W·Oᵀ) with each row times s; O is a product of butterfly factors P·G·Pᵀ with G block-diagonal of Cayley transforms (arXiv 2311.06243; PEFT 0.21).</summary>
internal sealed class BoftReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) => (module.Values("boft_s").Length, module.Shape("boft_R")[1] * module.Shape("boft_R")[2]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var shape = module.Shape("boft_R");
        var (factors, blocks, size) = ((int)shape[0], (int)shape[1], (int)shape[2]);
        var (values, scales) = (module.Values("boft_R"), module.Values("boft_s"));
        var rotations = Enumerable.Range(0, factors * blocks).Select(i => Cayley(Matrix<double>.Build.DenseOfRowMajor(size, size, values[(i * size * size)..((i + 1) * size * size)]))).ToArray();
        return new MappedReference((rows, weight) =>
        {
            for (var factor = 0; factor < factors; factor++)
            {
                weight = Turn(weight, factors == 1 ? [.. Enumerable.Range(0, blocks * size)] : Order(blocks, size, factor), rotations.AsSpan(factor * blocks, blocks));
            }

            return weight.TimesRows(Vector<double>.Build.Dense(rows.Count, i => scales[rows[i]]));
        });
    }

    // (I − S)(I + S)⁻¹ with S the skew part.
    private static Matrix<double> Cayley(Matrix<double> r)
    {
        var skew = (r - r.Transpose()) / 2;
        var one = Matrix<double>.Build.DenseIdentity(r.RowCount);
        return (one - skew) * (one + skew).Inverse();
    }

    // In each span of blocks, cut into halves of a block: the even ones first, then the odd ones.
    private static int[] Order(int blocks, int size, int factor)
    {
        var (half, width) = (size / 2, size << factor);
        return [.. Enumerable.Range(0, blocks * size / width).SelectMany(span => Enumerable.Range(0, width / half)
            .OrderBy(chunk => chunk % 2).ThenBy(chunk => chunk)
            .SelectMany(chunk => Enumerable.Range((span * width) + (chunk * half), half)))];
    }

    // Every row w becomes P·G·Pᵀ·w; (P·x)ₖ is x at order[k].
    private static Matrix<double> Turn(Matrix<double> weight, int[] order, ReadOnlySpan<Matrix<double>> blocks)
    {
        var result = Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount);
        var size = blocks[0].RowCount;
        for (var row = 0; row < weight.RowCount; row++)
        {
            var inner = new double[order.Length];
            for (var k = 0; k < order.Length; k++)
            {
                inner[order[k]] = weight[row, k];
            }

            var turned = new double[order.Length];
            for (var b = 0; b < blocks.Length; b++)
            {
                (blocks[b] * Vector<double>.Build.Dense(inner[(b * size)..((b + 1) * size)])).AsArray().CopyTo(turned, b * size);
            }

            for (var k = 0; k < order.Length; k++)
            {
                result[row, k] = turned[order[k]];
            }
        }

        return result;
    }
}
