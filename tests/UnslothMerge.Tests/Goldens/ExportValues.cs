namespace UnslothMerge.Tests.Goldens;

/// <summary>The exact values of an export's matrices: those of the base, with stacks of experts cut, and what the truth adds to
/// them.</summary>
internal sealed class ExportValues(ExportCase @case, MergePlan plan, InputFiles files)
{
    private readonly SortedDictionary<string, float[]> _base = TinyModel.Values(@case.Base);

    private readonly Dictionary<string, LogicalTensor> _tensors = plan.Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);

    private readonly Dictionary<string, StoredTensor> _truth = @case.Truth is { } path
        ? SafetensorsFile.Open(path).Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal) : [];

    /// <summary>True if a matrix that vLLM joins to this one was changed.</summary>
    public bool HasMergedSibling(string module) =>
        _truth.Keys.Where(k => k.EndsWith(".weight.A", StringComparison.Ordinal))
            .Any(k => FusedSets.SetOf(k[..^".weight.A".Length]) == FusedSets.SetOf(module));

    /// <summary>The values of a tensor of the output, how far a merge may miss them, and whether they are the base's, in 16 bits.</summary>
    public (double[] Values, int Columns, double Delta, bool IsUntouched) Of(string name)
    {
        var (values, columns, isPlain) = FromBase(name);
        if (!_truth.TryGetValue(name + ".A", out var right))
        {
            return (values, columns, 0, isPlain);
        }

        var (a, b) = (Values(right), Values(_truth[name + ".B"]));
        var scaling = MemoryMarshal.Read<double>(files.ReadAll(_truth[name + ".s"]));
        var rank = (int)right.Shape[0];
        for (var i = 0; i < values.Length; i++)
        {
            var sum = 0.0;
            for (var k = 0; k < rank; k++)
            {
                sum += b[(i / columns * rank) + k] * a[(k * columns) + (i % columns)];
            }

            values[i] += scaling * sum;
        }

        return (values, columns, @case.Relative * values.Max(Math.Abs), false);
    }

    private (double[] Values, int Columns, bool IsPlain) FromBase(string name)
    {
        if (_tensors.TryGetValue(name, out var tensor))
        {
            return ([.. _base[name].Select(v => (double)v)], (int)tensor.Shape[^1], tensor.Source.Verbatim is not null);
        }

        // experts.3.up_proj.weight, of experts.gate_up_proj [experts, 2 · rows, columns]
        var parts = name.Split('.');
        var (stack, expert) = (string.Join('.', parts[..^3]), int.Parse(parts[^3], CultureInfo.InvariantCulture));
        var isDown = parts[^2] == "down_proj";
        tensor = _tensors[$"{stack}.{(isDown ? "down_proj" : "gate_up_proj")}"];
        var (rows, columns) = ((int)tensor.Shape[1] / (isDown ? 1 : 2), (int)tensor.Shape[2]);
        var first = ((expert * (int)tensor.Shape[1]) + (parts[^2] == "up_proj" ? rows : 0)) * columns;
        return ([.. _base[tensor.Name].AsSpan(first, rows * columns).ToArray().Select(v => (double)v)], columns, true);
    }

    private double[] Values(StoredTensor tensor) => [.. files.ReadAll<float>(tensor).Select(v => (double)v)];
}
