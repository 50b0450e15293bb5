using System.Text.Json.Nodes;
using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.Kinds;

namespace UnslothMerge.Verification.References;

/// <summary>DoRA: every output gets a magnitude, m/‖W + Δ‖ times what it was (arXiv 2402.09353).</summary>
internal sealed class DoraReference(double[] magnitude, bool byColumn) : Reference
{
    private readonly double[] _squares = new double[byColumn ? magnitude.Length : 0];

    public override bool NeedsToSee => byColumn;

    public override void See(RowSet set)
    {
        for (var i = 0; i < set.Values.Length; i++)
        {
            _squares[i % set.Columns] += set.Values[i] * set.Values[i];
        }
    }

    public override void Apply(RowSet set)
    {
        for (var i = 0; i < set.Rows.Count; i++)
        {
            var row = set.Row(i);
            var sum = 0.0;
            foreach (var value in row)
            {
                sum += value * value;
            }

            for (var j = 0; j < row.Length; j++)
            {
                row[j] *= byColumn ? magnitude[j] / Math.Sqrt(_squares[j]) : magnitude[set.Rows[i]] / Math.Sqrt(sum);
            }
        }
    }
}

/// <summary>The references of LoRA's variants that are more than one product.</summary>
internal static class LoraVariants
{
    /// <summary>KaSA: the r smallest singular components make way for scale·B·diag(d)·A (arXiv 2412.06071).</summary>
    public static Reference Kasa(AdapterModule module, double scale)
    {
        var (a, b, diagonal) = (module.Matrix("lora_A.weight"), module.Matrix("lora_B.weight"), module.Vector("lora_diag"));
        return new MappedReference((_, weight) => weight.WithoutSmallest(a.RowCount) + (scale * (b.TimesColumns(diagonal) * a))) { All = true };
    }

    /// <summary>BD-LoRA: the stored rows of a factor are blocks on a diagonal (PEFT 0.21).</summary>
    public static Reference BlockDiagonal(AdapterModule module, double scale, double factor)
    {
        var (a, b) = (Spread(module, "lora_A.weight", "target_modules_bd_a"), Spread(module, "lora_B.weight", "target_modules_bd_b"));
        return new AddedReference((rows, _) => scale * (b.Pick(rows) * a), factor);
    }

    private static Matrix<double> Spread(AdapterModule module, string part, string option)
    {
        var stored = module.Matrix(part);
        var config = module.Config["use_bdlora"] as JsonObject;
        var listed = (config?[option] as JsonArray)?.Any(name => module.Name.Contains((string)name!, StringComparison.Ordinal)) == true;
        if (!listed)
        {
            return stored;
        }

        var blocks = (int)config!["nblocks"]!;
        var height = stored.RowCount / blocks;
        return Matrix<double>.Build.Dense(stored.RowCount, stored.ColumnCount * blocks, (i, j) => j / stored.ColumnCount == i / height ? stored[i, j % stored.ColumnCount] : 0);
    }

    /// <summary>The rows of an embedding that trained ones take the place of (PEFT 0.21, <c>TrainableTokensLayer</c>).</summary>
    public static Reference Tokens(AdapterModule module)
    {
        var (trained, indices) = (module.Matrix("trainable_tokens_delta"), Indices(module));
        return new MappedReference((rows, weight) => Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount, (i, j) =>
            indices.TryGetValue(rows[i], out var row) ? trained[row, j] : weight[i, j]));
    }

    private static Dictionary<long, int> Indices(AdapterModule module)
    {
        var node = module.Config["trainable_token_indices"] ?? module.Config["token_indices"];
        if (node is JsonObject byModule)
        {
            node = byModule.Where(p => $".{module.Name}".EndsWith($".{p.Key}", StringComparison.Ordinal)).MaxBy(p => p.Key.Length).Value;
        }

        return ((JsonArray)node!).Select((index, row) => ((long)index!, row)).ToDictionary(p => p.Item1, p => p.row);
    }
}

/// <summary>What <c>lora_bias</c> adds to a bias.</summary>
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
