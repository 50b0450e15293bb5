using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>Super-Tuning: single entries of W are changed, and with a rank BA·alpha/r is added (PEFT 0.21).</summary>
internal sealed class SuperTuningReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (places, values) = (module.Values("supertuning_indices"), module.Values("supertuning_values"));
        var low = module.Has("supertuning_lora_A.weight") ? module.Matrix("supertuning_lora_A.weight") : null;
        return new AddedReference(
            (rows, _) =>
            {
                var sparse = ShiraReference.Sparse(rows, target.Inputs, values.Select((v, n) => ((long)places[n] / target.Inputs, (long)places[n] % target.Inputs, v)));
                return low is null ? sparse : sparse + (module.Number("lora_alpha")!.Value / low.RowCount * (module.Matrix("supertuning_lora_B.weight").Pick(rows) * low));
            },
            target.Factor);
    }
}
