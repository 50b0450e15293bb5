using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Kinds that rotate or reflect a weight.</summary>
internal static class RotationFormulas
{
    private const string OftLinear = "oft_R.weight";
    private const string OftEmbedding = "oft_embedding_R.weight";

    /// <summary>HRA: W·(I − 2u₀u₀ᵀ)(I − 2u₁u₁ᵀ)…, or with orthogonalised vectors W·(I − 2UUᵀ) (arXiv 2405.17484; PEFT 0.21).</summary>
    public static Reference Hra(AdapterModule module, ReferenceTarget target)
    {
        var units = module.Matrix("hra_u").EnumerateColumns().ToList();
        for (var i = 0; i < units.Count; i++)
        {
            for (var j = 0; module.IsSet("apply_GS") && j < i; j++)
            {
                units[i] -= units[j].DotProduct(units[i]) * units[j];
            }

            units[i] /= units[i].L2Norm();
        }

        return FormulaReference.Map((_, weight) => units.Aggregate(weight, (w, u) => w - (2 * (w * u).OuterProduct(u))));
    }

    /// <summary>RoAd: pairs of outputs are rotated and scaled, and the bias with them (arXiv 2409.00119; PEFT 0.21).</summary>
    public static Reference Road(AdapterModule module, ReferenceTarget target)
    {
        var (theta, alpha) = (module.Values("road_theta"), module.Values("road_alpha"));
        var group = (int)(module.Number("group_size") ?? 64);
        var half = group / 2;
        var variant = module.Text("variant") ?? "road_1";
        return FormulaReference.Map(
            (_, weight) => weight.MapEntries((i, j) =>
            {
                var (first, inner) = (i / group * group, i % group);
                var (cosine, sine) = variant switch
                {
                    "road_1" => ((first / 2) + (inner % half), (first / 2) + (inner % half)),
                    "road_2" => (i, i),
                    _ => ((2 * first) + inner, (2 * first) + group + inner),
                };
                var other = inner < half ? -weight[i + half, j] : weight[i - half, j];
                return (alpha[cosine] * Math.Cos(theta[cosine]) * weight[i, j]) + (alpha[sine] * Math.Sin(theta[sine]) * other);
            }),
            all: true);
    }

    /// <summary>BOFT: (W·Oᵀ) with each row times s; O is a product of butterfly factors P·G·Pᵀ with G block-diagonal of Cayley transforms
    /// (arXiv 2311.06243; PEFT 0.21).</summary>
    public static Reference Boft(AdapterModule module, ReferenceTarget target)
    {
        var shape = module.Shape("boft_R");
        var (factors, blocks, size) = ((int)shape[0], (int)shape[1], (int)shape[2]);
        var scales = module.Values("boft_s");
        var rotations = module.Values("boft_R").Chunk(size * size).Select(block =>
        {
            var r = Matrix<double>.Build.DenseOfRowMajor(size, size, block);
            return Matrices.Cayley((r - r.Transpose()) / 2);
        }).ToArray();
        return FormulaReference.Map((rows, weight) =>
        {
            for (var factor = 0; factor < factors; factor++)
            {
                var order = factors == 1 ? [.. Enumerable.Range(0, blocks * size)] : Butterfly(blocks, size, factor);
                weight = RotatePermuted(weight, order, rotations.AsSpan(factor * blocks, blocks));
            }

            return weight.MapEntries((i, j) => weight[i, j] * scales[rows[i]]);
        });
    }

    // In each span of blocks, cut into halves of a block: the even ones first, then the odd ones.
    private static int[] Butterfly(int blocks, int size, int factor)
    {
        var (half, width) = (size / 2, size << factor);
        return [.. Enumerable.Range(0, blocks * size / width).SelectMany(span => Enumerable.Range(0, width / half)
            .OrderBy(chunk => chunk % 2).ThenBy(chunk => chunk)
            .SelectMany(chunk => Enumerable.Range((span * width) + (chunk * half), half)))];
    }

    // Every row w becomes P·G·Pᵀ·w; (P·x)ₖ is x at order[k].
    private static Matrix<double> RotatePermuted(Matrix<double> weight, int[] order, ReadOnlySpan<Matrix<double>> blocks)
    {
        var result = Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount);
        var size = blocks[0].RowCount;
        for (var row = 0; row < weight.RowCount; row++)
        {
            var permuted = new double[order.Length];
            for (var k = 0; k < order.Length; k++)
            {
                permuted[order[k]] = weight[row, k];
            }

            var rotated = new double[order.Length];
            for (var b = 0; b < blocks.Length; b++)
            {
                (blocks[b] * Vector<double>.Build.Dense(permuted[(b * size)..((b + 1) * size)])).AsArray().CopyTo(rotated, b * size);
            }

            result.SetRow(row, Array.ConvertAll(order, k => rotated[k]));
        }

        return result;
    }

    public static (long? Outputs, long? Inputs) OftSize(AdapterModule module) =>
        module.Has(OftLinear) && module.Shape(OftLinear) is var shape && (shape[0] > 1 || !module.IsSet("block_share"))
            ? (null, shape[0] * OftBlockSize(shape[1]))
            : default;

    /// <summary>OFT: W·Rᵀ, on an embedding W·R; R is block-diagonal, each block the Cayley transform of a skew matrix or its Neumann series
    /// (arXiv 2306.07280; PEFT 0.21).</summary>
    public static Reference Oft(AdapterModule module, ReferenceTarget target)
    {
        var embedding = module.Has(OftEmbedding);
        var triangles = module.Matrix(embedding ? OftEmbedding : OftLinear);
        var (size, blocks) = (OftBlockSize(triangles.ColumnCount), triangles.RowCount);
        var rotations = triangles.EnumerateRows().Select(t => OftRotation(module, t, size, blocks)).ToArray();
        return FormulaReference.Map((_, weight) => weight.MapEntries((i, j) =>
        {
            var (rotation, start, sum) = (rotations[j / size % blocks], j / size * size, 0.0);
            for (var k = 0; k < size; k++)
            {
                sum += weight[i, start + k] * (embedding ? rotation[k, j - start] : rotation[j - start, k]);
            }

            return sum;
        }));
    }

    private static int OftBlockSize(long values) => (1 + (int)Math.Round(Math.Sqrt(1 + (8.0 * values)))) / 2;

    private static Matrix<double> OftRotation(AdapterModule module, Vector<double> triangle, int size, int blocks)
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

        var limit = (module.Number("eps") ?? 6e-5) / Math.Sqrt(blocks);
        if (module.IsSet("coft") && skew.FrobeniusNorm() > limit)
        {
            skew *= limit / skew.FrobeniusNorm();
        }

        return module.IsSet("use_cayley_neumann") ? Neumann(module, skew) : Matrices.Cayley(skew);
    }

    // I + 2Q + 2Q² + …; since PEFT 0.18, which writes its version, the last power counts once, and there are three at least.
    private static Matrix<double> Neumann(AdapterModule module, Matrix<double> skew)
    {
        var terms = (int)(module.Number("num_cayley_neumann_terms") ?? 5);
        var isOld = !Version.TryParse(module.Text("peft_version")?.Split("@")[0].Split(".dev")[0], out var version)
            || version < new Version(0, 18);
        var powers = terms <= 2 || isOld ? terms - 1 : Math.Max(3, terms - 1);
        var power = Matrix<double>.Build.DenseIdentity(skew.RowCount);
        var sum = power;
        for (var i = 1; i <= powers; i++)
        {
            power *= skew;
            sum += (i == powers && terms > 2 && !isOld ? 1 : 2) * power;
        }

        return sum;
    }
}
