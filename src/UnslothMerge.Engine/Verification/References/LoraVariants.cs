using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.Kinds;

namespace UnslothMerge.Verification.References;

/// <summary>DoRA: every output is scaled by m/‖W + Δ‖ (arXiv 2402.09353).</summary>
/// <param name="magnitude">m, one for each output.</param>
/// <param name="byColumn">True if an output is a column of the weight.</param>
/// <param name="products">What adds Δ, where other adapters changed the weight before; else it has been added already.</param>
internal sealed class DoraReference(double[] magnitude, bool byColumn, IReadOnlyList<Reference>? products = null) : Reference
{
    private readonly double[] _squares = new double[byColumn ? magnitude.Length : 0];

    public override bool NeedsScan => byColumn;

    public override void Scan(RowSet set)
    {
        var own = Own(set);
        for (var i = 0; i < own.Values.Length; i++)
        {
            _squares[i % set.Columns] += own.Values[i] * own.Values[i];
        }
    }

    public override void Apply(RowSet set)
    {
        var own = Own(set);
        for (var i = 0; i < set.Rows.Count; i++)
        {
            var row = set.Row(i);
            var norm = own.Row(i).ToArray().Sum(v => v * v);
            for (var j = 0; j < row.Length; j++)
            {
                var added = products is null ? 0 : own.Row(i)[j] - set.Weight[(i * set.Columns) + j];
                row[j] = (row[j] + added) * (byColumn ? magnitude[j] / Math.Sqrt(_squares[j]) : magnitude[set.Rows[i]] / Math.Sqrt(norm));
            }
        }
    }

    // What the adapter alone makes of the base.
    private RowSet Own(RowSet set)
    {
        if (products is null)
        {
            return set;
        }

        var own = new RowSet(set.Rows, set.Columns) { Weight = set.Weight, Values = [.. set.Weight] };
        foreach (var product in products)
        {
            product.Apply(own);
        }

        return own;
    }
}

/// <summary>The references of LoRA's variants that are more than one product.</summary>
internal static class LoraVariants
{
    /// <summary>KaSA: the r smallest singular components are replaced by scale·B·diag(d)·A (arXiv 2412.06071).</summary>
    public static Reference Kasa(AdapterModule module, double scale)
    {
        var (a, b) = (module.Matrix("lora_A.weight"), module.Matrix("lora_B.weight").TimesColumns(module.Vector("lora_diag")));
        return FormulaReference.Map((_, weight) => weight.WithoutSmallest(a.RowCount) + (scale * (b * a)), all: true);
    }

    /// <summary>BD-LoRA: the stored rows of a factor are blocks on a diagonal (PEFT 0.21).</summary>
    public static Reference BlockDiagonal(AdapterModule module, double scale, double factor)
    {
        var a = BlockMatrix(module, "lora_A.weight", "target_modules_bd_a");
        var b = BlockMatrix(module, "lora_B.weight", "target_modules_bd_b");
        return FormulaReference.Add((rows, _) => scale * (b.Pick(rows) * a), factor);
    }

    private static Matrix<double> BlockMatrix(AdapterModule module, string part, string option)
    {
        var stored = module.Matrix(part);
        var config = module.Config["use_bdlora"] as JsonObject;
        if (config?.Strings(option).Any(name => module.Name.Contains(name, StringComparison.Ordinal)) != true)
        {
            return stored;
        }

        var (blocks, width) = (Math.Max(1, (int)(config.Number("nblocks") ?? 1)), stored.ColumnCount);
        var height = stored.RowCount / blocks;
        return Matrix<double>.Build.Dense(
            stored.RowCount, width * blocks, (i, j) => j / width == i / height ? stored[i, j % width] : 0);
    }

    /// <summary>The rows of an embedding that trained ones replace (PEFT 0.21, <c>TrainableTokensLayer</c>).</summary>
    public static Reference Tokens(AdapterModule module)
    {
        var (trained, indices) = (module.Matrix("trainable_tokens_delta"), Indices(module));
        return FormulaReference.Map(
            (rows, weight) => weight.MapEntries((i, j) => indices.TryGetValue(rows[i], out var row) ? trained[row, j] : weight[i, j]));
    }

    private static Dictionary<long, int> Indices(AdapterModule module)
    {
        var node = module.Config["trainable_token_indices"] ?? module.Config["token_indices"];
        if (node is JsonObject byModule)
        {
            node = byModule.Where(p => $".{module.Name}".EndsWith($".{p.Key}", StringComparison.Ordinal)).MaxBy(p => p.Key.Length).Value;
        }

        return ((JsonArray)node!).Index().ToDictionary(p => (long)p.Item!, p => p.Index);
    }
}

/// <summary>The vector that <c>lora_bias</c> adds to a bias.</summary>
internal sealed class VectorReference(double[] vector, double scale) : Reference
{
    public override bool KnowsNoise => true;

    public override void Apply(RowSet set)
    {
        for (var i = 0; i < set.Values.Length; i++)
        {
            var change = scale * vector[(set.Rows[i / set.Columns] * set.Columns) + (i % set.Columns)];
            set.Values[i] += change;
            set.Noise[i / set.Columns] = Math.Max(set.Noise[i / set.Columns], Math.Abs(change) / (1 << 22));
        }
    }
}
