using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Kinds that add a product of factors, or a product or grid of such products.</summary>
internal static class ProductFormulas
{
    /// <summary>AdaLoRA: W + a/(init_r + 1e-5)·B·diag(E)·A (arXiv 2303.10512; PEFT 0.21).</summary>
    public static Reference AdaLora(AdapterModule module, ReferenceTarget target)
    {
        var rank = module.Number("init_r")!.Value;
        var alpha = module.Number("lora_alpha") is > 0 and var stated ? stated : rank;
        return target.AddProduct(
            alpha / (rank + 1e-5) * module.Matrix("lora_B").TimesColumns(module.Vector("lora_E")), module.Matrix("lora_A"));
    }

    /// <summary>DeLoRA: W + B·diag(λ / (r·‖aᵢ‖·‖bᵢ‖))·A, column c times w_norm[c] (arXiv 2503.18225; PEFT 0.21).</summary>
    public static Reference DeLora(AdapterModule module, ReferenceTarget target)
    {
        var (a, b, bound) = (module.Matrix("delora_A"), module.Matrix("delora_B"), module.Values("delora_lambda")[0]);
        var factors = Vector<double>.Build.Dense(
            a.RowCount, i => bound / (a.RowCount * Math.Max(a.Row(i).L2Norm(), 1e-4) * Math.Max(b.Column(i).L2Norm(), 1e-4)));
        return target.AddProduct(b.TimesColumns(factors), a.TimesColumns(module.Vector("delora_w_norm")));
    }

    /// <summary>TinyLoRA: W + B·(Σ vᵢPᵢ)·A with one small vector for all modules or a group of them (PEFT 0.21).</summary>
    public static Reference TinyLora(AdapterModule module, ReferenceTarget target)
    {
        var (a, b, p) = (module.Matrix("tinylora_A"), module.Matrix("tinylora_B"), module.Matrix("tinylora_P"));
        var sum = (module.Shared("tinylora_v").Transpose() * p).ToRowMajorArray();
        return target.AddProduct(b * Matrix<double>.Build.DenseOfRowMajor(a.RowCount, a.RowCount, sum), a);
    }

    /// <summary>UniLoRA: W + BA; A and B are made of the entries of one vector (arXiv 2506.00799; PEFT 0.21).</summary>
    public static Reference UniLora(AdapterModule module, ReferenceTarget target)
    {
        var theta = module.Shared("unilora_theta_d");
        return target.AddProduct(Factor("B"), Factor("A"));

        Matrix<double> Factor(string name) =>
            module.Matrix($"unilora_indices_{name}").Map2(
                (index, scale) => theta[(int)index, 0] * scale, module.Matrix($"unilora_scales_{name}"));
    }

    /// <summary>VeRA: W + diag(b)·B·diag(d)·A with random A and B that all modules share; PVeRA uses the first half of A and d only
    /// (arXiv 2310.11454; PEFT 0.21).</summary>
    public static Reference Vera(AdapterModule module, ReferenceTarget target, string prefix)
    {
        var (a, b) = (module.Shared($"{prefix}_A"), module.Shared($"{prefix}_B"));
        var (outer, inner) = (module.Vector($"{prefix}_lambda_b"), module.Vector($"{prefix}_lambda_d").SubVector(0, b.ColumnCount));
        return target.AddProduct(
            b.SubMatrix(0, target.Outputs, 0, b.ColumnCount).TimesRows(outer),
            a.SubMatrix(0, b.ColumnCount, 0, target.Inputs).TimesRows(inner));
    }

    /// <summary>HiRA: W + W⊙BA, on an embedding W + W⊙(BA)ᵀ (ICLR 2025; PEFT 0.21).</summary>
    public static Reference Hira(AdapterModule module, ReferenceTarget target)
    {
        var (left, right) = module.Has("hira_embedding_A")
            ? (module.Matrix("hira_embedding_A").Transpose(), module.Matrix("hira_embedding_B").Transpose())
            : (module.Matrix("hira_B"), module.Matrix("hira_A"));
        return target.Add((rows, weight) => weight.PointwiseMultiply(left.Pick(rows) * right));
    }

    /// <summary>LoHa: W + alpha/r·(w1a·w1b)⊙(w2a·w2b); the factors of a convolution may have cores (arXiv 2108.06098; PEFT 0.21).</summary>
    public static Reference LoHa(AdapterModule module, ReferenceTarget target)
    {
        var scale = module.Number("alpha", "alpha_pattern") / module.Shape("hada_w1_b")[0];
        var first = Tucker(module, "hada_w1_a", "hada_w1_b", "hada_t1");
        var delta = scale * first.PointwiseMultiply(Tucker(module, "hada_w2_a", "hada_w2_b", "hada_t2"));
        return target.Add((rows, _) => delta.Reshape(target.Outputs, target.Inputs).Pick(rows));
    }

    /// <summary>LoKr: W + alpha/r·kron(w1, w2), as torch.kron reads tensors of unequal dimensions (arXiv 2309.14859; PEFT 0.21).</summary>
    public static Reference LoKr(AdapterModule module, ReferenceTarget target)
    {
        var rank = module.Has("lokr_w2_b") ? module.Shape("lokr_w2_b")[0]
            : module.Has("lokr_w1_b") ? module.Shape("lokr_w1_b")[0]
            : module.Number("r", "rank_pattern");
        var scale = module.Number("alpha", "alpha_pattern") / rank;
        var first = module.Has("lokr_w1") ? module.Matrix("lokr_w1") : module.Matrix("lokr_w1_a") * module.Matrix("lokr_w1_b");
        var second = module.Has("lokr_w2") ? module.Matrix("lokr_w2") : Tucker(module, "lokr_w2_a", "lokr_w2_b", "lokr_t2");
        var (height, width) = (second.RowCount, second.ColumnCount);
        return target.AddEntries(module.Has("lokr_w2") && module.Shape("lokr_w2") is [_, _, var kernel]
            ? (i, j) => scale * Padded(first, second, (int)kernel, (i * target.Inputs) + j)
            : (i, j) => scale * first[(int)(i / height), (int)(j / width)] * second[(int)(i % height), (int)(j % width)]);
    }

    // w1 [a, b] counts as [1, a, b] beside w2 [c, d, k]: the product is [c, a·d, b·k], taken for the weight in the order of its values.
    private static double Padded(Matrix<double> first, Matrix<double> second, int kernel, long flat)
    {
        var (channels, width) = (second.ColumnCount / kernel, first.ColumnCount * kernel);
        var (z, rest) = Math.DivRem(flat, (long)width * first.RowCount * channels);
        var (y, x) = ((int)(rest / width), (int)(rest % width));
        return first[y / channels, x / kernel] * second[(int)z, (y % channels * kernel) + (x % kernel)];
    }

    // a·b, or both through a core t [r, r, kernel …]: Σ t[i, j, k]·b[j, c]·a[i, o].
    private static Matrix<double> Tucker(AdapterModule module, string first, string second, string core)
    {
        var (a, b) = (module.Matrix(first), module.Matrix(second));
        if (!module.Has(core))
        {
            return a * b;
        }

        var (t, inner, kernel) = (
            module.Values(core), (int)module.Shape(core)[1], (int)module.Shape(core).Skip(2).Aggregate(1L, (x, y) => x * y));
        return Matrix<double>.Build.Dense(a.ColumnCount, b.ColumnCount * kernel, (o, column) =>
        {
            var (c, k, sum) = (column / kernel, column % kernel, 0.0);
            for (var i = 0; i < a.RowCount; i++)
            {
                for (var j = 0; j < inner; j++)
                {
                    sum += t[(((i * inner) + j) * kernel) + k] * b[j, c] * a[i, o];
                }
            }

            return sum;
        });
    }

    /// <summary>Tiles times tiles: A is [tiles, width, rank], B is [tiles, rank, height].</summary>
    public static (long? Outputs, long? Inputs) GraLoraSize(AdapterModule module)
    {
        var (a, b) = (module.Shape("gralora_A"), module.Shape("gralora_B"));
        return (b[0] * b[2], a[0] * a[1]);
    }

    /// <summary>GraLoRA: a grid of low-rank tiles, and in its hybrid form one low-rank delta more (arXiv 2505.20355; PEFT 0.21).</summary>
    public static Reference GraLora(AdapterModule module, ReferenceTarget target)
    {
        var (shape, height) = (module.Shape("gralora_A"), module.Shape("gralora_B")[2]);
        var (width, rank, group) = (shape[1], shape[2], shape[2] / shape[0]);
        var (a, b) = (module.Values("gralora_A"), module.Values("gralora_B"));
        var hybrid = module.Has("gralora_A_general.weight") ? module.Matrix("gralora_A_general.weight") : null;
        var scale = module.Number("alpha")!.Value / (rank + (hybrid?.RowCount ?? 0));
        return target.Add((rows, _) =>
        {
            var tiles = Matrices.Make(rows, target.Inputs, Tile);
            return scale * (hybrid is null ? tiles : tiles + (module.Matrix("gralora_B_general.weight").Pick(rows) * hybrid));
        });

        double Tile(long i, long j)
        {
            var (output, input, sum) = (i / height, j / width, 0.0);
            for (var t = 0L; t < group; t++)
            {
                sum += a[(((input * width) + (j % width)) * rank) + (output * group) + t]
                    * b[(((output * rank) + (input * group) + t) * height) + (i % height)];
            }

            return sum;
        }
    }

    /// <summary>RandLoRA: a weighted sum of random bases (arXiv 2502.00987; PEFT 0.21).</summary>
    public static Reference RandLora(AdapterModule module, ReferenceTarget target)
    {
        var (lambda, gamma) = (module.Matrix("randlora_lambda"), module.Matrix("randlora_gamma"));
        var (rank, bases) = (lambda.RowCount, lambda.ColumnCount);
        var (least, wide) = (Math.Min(target.Outputs, target.Inputs), target.Outputs < target.Inputs);

        // B [≥ max, ≥ n, r] as a matrix has the last two dimensions in one; A is [r, 1, ≥ min].
        var (a, b) = (module.Shared("randlora_A"), module.Shared("randlora_B"));
        var scale = module.Number("randlora_alpha")!.Value / rank;
        return target.AddEntries((i, j) => scale * (wide ? Entry(j, i) : Entry(i, j)));

        // D = L·M, L the bases flattened by [basis, rank] and M by [rank, basis]: the inner orders differ.
        double Entry(long row, long column)
        {
            var sum = 0.0;
            for (var inner = 0; inner < rank * bases && column < least; inner++)
            {
                var (k, n) = Math.DivRem(inner, bases);
                sum += b[(int)row, inner] * lambda[k, n] * gamma[n, (int)column] * a[k, (int)column];
            }

            return sum;
        }
    }
}
