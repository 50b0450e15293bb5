using UnslothMerge.Adapters.Numerics;
using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>FourierFT: W + scaling·Re(ifft2(S)), summed wave by wave (arXiv 2405.03003; PEFT 0.21).</summary>
internal sealed class FourierFtReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (outputs, inputs) = (target.Outputs, target.Inputs);
        var spectrum = module.Values("fourierft_spectrum");
        var places = RandomPermutation.First((long)module.Number("random_loc_seed")!.Value, (long)outputs * inputs, spectrum.Length);
        var scale = module.Number("scaling")!.Value / ((double)outputs * inputs);
        return new AddedReference(
            (rows, _) => Matrices.Make(rows, inputs, (i, j) =>
            {
                var sum = 0.0;
                for (var n = 0; n < places.Length; n++)
                {
                    var turns = ((double)(places[n] / inputs * i % outputs) / outputs) + ((double)(places[n] % inputs * j % inputs) / inputs);
                    sum += spectrum[n] * Math.Cos(2 * Math.PI * turns);
                }

                return scale * sum;
            }),
            target.Factor);
    }
}
