using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>AdaLoRA: W + B(A⊙E)·a/(init_r + 1e-5), with A [r, in], E [r, 1], B [out, r], also for Conv2d with A [r, in·k·k]. The divisor is
/// the rank that training began with: what pruning left of it (even nothing) does not count. Source: arXiv 2303.10512; PEFT 0.21,
/// <c>adalora</c>.</summary>
internal sealed class AdaLora() : MatrixKind("AdaLoRA", "ADALORA", ["lora_A", "lora_B", "lora_E", "ranknum"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var (a, b, e) = (module.Numbers("lora_A", 2), module.Numbers("lora_B", 2), module.Numbers("lora_E", 2));

        // Raw dumps have the divisor too; PEFT does not save it, because it always is init_r.
        var divisor = module.OptionalNumbers("ranknum");
        var rank = (int)a.Shape[0];
        AdaptedModule.Require(
            b.Shape[1] == rank && e.Shape.Count() == rank,
            $"lora_A {a.Shape.Text()}, lora_B {b.Shape.Text()} and lora_E {e.Shape.Text()} are not of one rank");
        var initial = module.Config.ValueOf(module.Name, "init_r");
        var alpha = module.Config.ValueOf(module.Name, "lora_alpha");
        var columns = (int)a.Shape[1];
        return new MatrixDelta(
            divisor is null ? [a, b, e] : [a, b, e, divisor],
            from => new ProductMatrix(Matrices.ScaleColumns(from.Read(b), from.Read(e)), from.Read(a), rank, columns))
        {
            IsTransposed = module.IsTransposed(b.Shape[0], columns),
            Rank = rank,
            Scaling = (alpha > 0 ? alpha : initial) / (initial + 1e-5),
        };
    }
}
