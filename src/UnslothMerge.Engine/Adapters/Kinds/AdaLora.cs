using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// AdaLoRA: W + B(A⊙E)·a/(init_r + 1e-5), with A [r, in], E [r, 1], B [out, r], also for Conv2d with A [r, in·k·k]. The divisor is the rank that
/// training began with: what pruning left of it (even nothing) does not count. Source: arXiv 2303.10512; PEFT 0.21, <c>adalora</c>.
/// </summary>
public sealed class AdaLora : MatrixKind
{
    /// <inheritdoc/>
    public override string Name => "AdaLoRA";

    /// <inheritdoc/>
    public override string PeftType => "ADALORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = ["lora_A", "lora_B", "lora_E", "ranknum"];

    /// <inheritdoc/>
    protected override MatrixDelta Build(ModuleParts parts)
    {
        var (a, b, e) = (parts.Numbers("lora_A", 2), parts.Numbers("lora_B", 2), parts.Numbers("lora_E", 2));

        // Raw dumps have the divisor too; PEFT does not save it, because it always is init_r.
        var divisor = parts.OptionalNumbers("ranknum");
        var rank = (int)a.Shape[0];
        ModuleParts.Require(b.Shape[1] == rank && e.Shape.Count() == rank, $"lora_A {a.Shape.Text()}, lora_B {b.Shape.Text()} and lora_E {e.Shape.Text()} are not of one rank");
        var initial = parts.Config.ValueOf(parts.Module, "init_r");
        var alpha = parts.Config.ValueOf(parts.Module, "lora_alpha");
        var columns = (int)a.Shape[1];
        return new MatrixDelta(divisor is null ? [a, b, e] : [a, b, e, divisor], from => new ProductMatrix(Products.ScaleColumns(from.Read(b), from.Read(e)), from.Read(a), rank, columns))
        {
            IsTransposed = parts.Orient(b.Shape[0], columns),
            Rank = rank,
            Scaling = (alpha > 0 ? alpha : initial) / (initial + 1e-5),
        };
    }
}
