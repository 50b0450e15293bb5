using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>OFT: W·Rᵀ, on an embedding W·R; R is block-diagonal, each block the Cayley transform of a skew matrix or its Neumann series (arXiv 2306.07280; PEFT 0.21).</summary>
internal sealed class OftReference : ReferenceKind
{
    private const string Linear = "oft_R.weight";
    private const string Embedding = "oft_embedding_R.weight";

    public override (long? Outputs, long? Inputs) Size(AdapterModule module) =>
        module.Has(Linear) && (module.Shape(Linear)[0] > 1 || (bool?)module.Config["block_share"] != true) ? (null, module.Shape(Linear)[0] * BlockSize(module.Shape(Linear)[1])) : (null, null);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var embedding = module.Has(Embedding);
        var triangles = module.Matrix(embedding ? Embedding : Linear);
        var (size, blocks) = (BlockSize(triangles.ColumnCount), triangles.RowCount);
        var rotations = Enumerable.Range(0, blocks).Select(b => Rotation(module, triangles.Row(b), size, blocks)).ToArray();
        return new MappedReference((_, weight) => Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount, (i, j) =>
        {
            var (rotation, left, sum) = (rotations[j / size % blocks], j / size * size, 0.0);
            for (var k = 0; k < size; k++)
            {
                sum += weight[i, left + k] * (embedding ? rotation[k, j - left] : rotation[j - left, k]);
            }

            return sum;
        }));
    }

    private static int BlockSize(long values) => (1 + (int)Math.Round(Math.Sqrt(1 + (8.0 * values)))) / 2;

    private static Matrix<double> Rotation(AdapterModule module, Vector<double> triangle, int size, int blocks)
    {
        var skew = Matrix<double>.Build.Dense(size, size);
        var next = 0;
        for (var i = 0; i < size; i++)
        {
            for (var j = i + 1; j < size; j++)
            {
                skew[i, j] = triangle[next];
                skew[j, i] = -triangle[next++];
            }
        }

        if ((bool?)module.Config["coft"] == true && (module.Number("eps") ?? 6e-5) / Math.Sqrt(blocks) is var limit && skew.FrobeniusNorm() > limit)
        {
            skew *= limit / skew.FrobeniusNorm();
        }

        var one = Matrix<double>.Build.DenseIdentity(size);
        return (bool?)module.Config["use_cayley_neumann"] == true
            ? Neumann(module, skew, one)
            : (one - skew) * (one + skew).Inverse();
    }

    // I + 2Q + 2Q² + …; since PEFT 0.18, which writes its version, the last power counts once, and there are three at least.
    private static Matrix<double> Neumann(AdapterModule module, Matrix<double> skew, Matrix<double> one)
    {
        var terms = (int)(module.Number("num_cayley_neumann_terms") ?? 5);
        var isOld = !Version.TryParse(((string?)module.Config["peft_version"])?.Split("@")[0].Split(".dev")[0], out var version) || version < new Version(0, 18);
        var powers = terms <= 2 ? terms - 1 : isOld ? terms - 1 : Math.Max(3, terms - 1);
        var (sum, power) = (one, one);
        for (var i = 1; i <= powers; i++)
        {
            power *= skew;
            sum += (i == powers && terms > 2 && !isOld ? 1 : 2) * power;
        }

        return sum;
    }
}
