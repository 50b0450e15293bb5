using UnslothMerge.Adapters.Numerics;
using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>PEANuT: W + scaling·(B·x) with x a small network's output for the weight (arXiv 2410.01870; PEFT 0.21).</summary>
internal sealed class PeanutReference : ReferenceKind
{
    public override Reference? Of(AdapterModule module, ReferenceTarget target)
    {
        var activation = Activations.Find((string?)module.Config["act_fn"] ?? "relu");
        var depth = (int)(module.Number("depth") ?? 0);
        return activation is null ? null : new AddedReference(
            (_, weight) =>
            {
                var x = (module.Matrix("peanut_A.weight") * weight).Map(activation);
                var kept = new Stack<Matrix<double>>();
                for (var i = 0; i < depth; i++)
                {
                    kept.Push(x);
                    x = (module.Matrix($"peanut_encoders.{i}.weight") * x).Map(activation);
                }

                for (var i = 0; i < depth; i++)
                {
                    x = (module.Matrix($"peanut_decoders.{i}.weight") * x).Map(activation) + kept.Pop();
                }

                return module.Number("scaling")!.Value * (module.Matrix("peanut_B.weight") * x);
            },
            target.Factor)
        { All = true };
    }
}
