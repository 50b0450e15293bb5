using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Kinds that change a weight entry by entry.</summary>
internal static class EntryFormulas
{
    /// <summary>BEFT: b + v (PEFT 0.21).</summary>
    public static Reference? Beft(AdapterModule module, ReferenceTarget target)
    {
        var vector = module.Values("beft_bias");
        return target.IsBias ? target.AddEntries((i, _) => vector[i]) : null;
    }

    /// <summary>C3A: W + circulant tiles / inputs (arXiv 2407.19342; PEFT 0.21).</summary>
    public static Reference C3A(AdapterModule module, ReferenceTarget target)
    {
        var (kernel, across, n) = (module.Values("c3a_kernel"), module.Shape("c3a_kernel")[1], module.Shape("c3a_kernel")[2]);
        return target.AddEntries((i, j) => kernel[((((i / n) * across) + (j / n)) * n) + (((j % n) - (i % n) + n) % n)] / target.Inputs);
    }

    /// <summary>SHiRA: single entries of W are changed (arXiv 2406.13175; PEFT 0.21).</summary>
    public static Reference Shira(AdapterModule module, ReferenceTarget target)
    {
        var (indices, values) = (module.Values("shira_indices"), module.Values("shira_weight"));
        return target.Add((rows, _) => Matrices.Sparse(
            rows, target.Inputs, values.Select((v, n) => ((long)indices[n], (long)indices[values.Length + n], v))));
    }

    /// <summary>Super-Tuning: single entries of W are changed, and with a rank BA·alpha/r is added (PEFT 0.21).</summary>
    public static Reference SuperTuning(AdapterModule module, ReferenceTarget target)
    {
        var (indices, values) = (module.Values("supertuning_indices"), module.Values("supertuning_values"));
        var low = module.Has("supertuning_lora_A.weight") ? module.Matrix("supertuning_lora_A.weight") : null;
        var scale = module.Number("lora_alpha") ?? 0;
        return target.Add((rows, _) =>
        {
            var entries = values.Select((v, n) => ((long)indices[n] / target.Inputs, (long)indices[n] % target.Inputs, v));
            var sparse = Matrices.Sparse(rows, target.Inputs, entries);
            return low is null ? sparse : sparse + (scale / low.RowCount * (module.Matrix("supertuning_lora_B.weight").Pick(rows) * low));
        });
    }

    /// <summary>MiSS: W[o, c] + B[c mod r, o]; 'mini' repeats B along the outputs; 'bat' makes X + X·Bₚ + Bₚ of each tile
    /// (arXiv 2409.15371; PEFT 0.21).</summary>
    public static Reference Miss(AdapterModule module, ReferenceTarget target)
    {
        var (blocks, shape) = (module.Values("miss_block"), module.Shape("miss_block"));
        if (shape is not [_, _, var size])
        {
            return target.AddEntries((i, j) => blocks[(j % shape[0] * shape[1]) + (i % shape[1])]);
        }

        return FormulaReference.Map((rows, weight) => weight.MapEntries((i, column) =>
        {
            var (tile, inner, start) = (rows[i] / size, rows[i] % size, column / size * size);
            var sum = weight[i, column] + blocks[(((tile * size) + inner) * size) + (column % size)];
            for (var k = 0L; k < size; k++)
            {
                sum += weight[i, (int)(start + k)] * blocks[(((tile * size) + k) * size) + (column % size)];
            }

            return sum;
        }));
    }

    /// <summary>GLoRA: W + W⊙A + B and b + b⊙D + E + W·C, each path a product, a vector or a number (arXiv 2306.07967; PEFT
    /// 0.21).</summary>
    public static Reference Glora(AdapterModule module, ReferenceTarget target)
    {
        return target.Add(target.IsBias
            ? (rows, bias) =>
            {
                var change = bias.PointwiseMultiply(Path('D').Pick(rows)) + Path('E').Pick(rows);
                return (module.Has("glora_C.X") || module.Has("glora_C.Xd")) && target.Weight() is var weight
                    ? change + (weight.Pick(rows) * GloraPath(module, 'C', weight.ColumnCount, 1))
                    : change;
            }
            : (rows, weight) => weight.PointwiseMultiply(Path('A').Pick(rows)) + Path('B').Pick(rows));

        Matrix<double> Path(char path) => GloraPath(module, path, target.Outputs, target.Inputs);
    }

    // As torch broadcasts it: a product, a vector along the last dimension (or the rows of a bias), a number.
    private static Matrix<double> GloraPath(AdapterModule module, char path, int rows, int columns)
    {
        if (module.Has($"glora_{path}.Xd"))
        {
            return module.Matrix($"glora_{path}.Xd") * module.Matrix($"glora_{path}.Xu");
        }

        if (!module.Has($"glora_{path}.X"))
        {
            return Matrix<double>.Build.Dense(rows, columns);
        }

        var (values, shape) = (module.Values($"glora_{path}.X"), module.Shape($"glora_{path}.X"));
        return Matrix<double>.Build.Dense(rows, columns, (i, j) =>
            values.Length == 1 ? values[0]
            : values.Length == (long)rows * columns ? values[(i * columns) + j]
            : shape.Count == 2 && shape[1] == 1 ? values[i]
            : values[j]);
    }

    public static (long? Outputs, long? Inputs) Ia3Size(AdapterModule module)
    {
        var shape = module.Shape("ia3_l");
        return shape.Count > 2 ? default : ScalesInputs(module, null) ? (null, shape.Count()) : (shape.Count(), null);
    }

    /// <summary>IA3: the inputs of a feed-forward layer, or the outputs and the bias of any other, times a vector
    /// (arXiv 2205.05638; PEFT 0.21).</summary>
    public static Reference Ia3(AdapterModule module, ReferenceTarget target)
    {
        var scales = module.Values("ia3_l");
        if (target.IsBias || !ScalesInputs(module, target))
        {
            return FormulaReference.Map((rows, weight) => weight.MapEntries((i, j) => weight[i, j] * scales[rows[i]]));
        }

        // Each group of a convolution's outputs has its own channels of the input.
        var channels = target.Shape.Count > 2 ? (int)target.Shape[1] : target.Inputs;
        var (kernel, groups) = (target.Inputs / channels, scales.Length / channels);
        return FormulaReference.Map((rows, weight) => weight.MapEntries((i, j) =>
            weight[i, j] * scales[(rows[i] * groups / target.Outputs * channels) + (j / kernel)]));
    }

    private static bool ScalesInputs(AdapterModule module, ReferenceTarget? target)
    {
        var shape = module.Shape("ia3_l");
        return shape.Count == 2 && target?.Shape.Count is null or 1 or 2 && shape[0] != shape[1] ? shape[0] == 1
            : module.Config["feedforward_modules"] switch
            {
                JsonArray => module.Texts("feedforward_modules").Any(n => module.Name.EndsWith(n, StringComparison.Ordinal)),
                JsonValue pattern => new ForeignPattern($@"\A(?:{pattern})\z", MergeError.InvalidAdapter, "feedforward_modules")
                    .IsMatch(module.Name),
                _ => false,
            };
    }
}
