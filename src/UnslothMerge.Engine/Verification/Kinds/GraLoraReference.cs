using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>GraLoRA: a grid of low-rank tiles, and in its hybrid form one low-rank delta more (arXiv 2505.20355; PEFT 0.21).</summary>
internal sealed class GraLoraReference : ReferenceKind
{
    public override (long? Outputs, long? Inputs) Size(AdapterModule module) =>
        (module.Shape("gralora_B")[0] * module.Shape("gralora_B")[2], module.Shape("gralora_A")[0] * module.Shape("gralora_A")[1]);

    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (shapeA, shapeB) = (module.Shape("gralora_A"), module.Shape("gralora_B"));
        var (count, width, rank, height) = (shapeA[0], shapeA[1], shapeA[2], shapeB[2]);
        var (a, b, group) = (module.Values("gralora_A"), module.Values("gralora_B"), rank / count);
        var hybrid = module.Has("gralora_A_general.weight") ? module.Matrix("gralora_A_general.weight") : null;
        var scale = module.Number("alpha")!.Value / (rank + (hybrid?.RowCount ?? 0));
        return new AddedReference(
            (rows, _) =>
            {
                var tiles = Matrices.Make(rows, target.Inputs, (i, j) =>
                {
                    var (output, input, sum) = (i / height, j / width, 0.0);
                    for (var t = 0L; t < group; t++)
                    {
                        sum += a[(((input * width) + (j % width)) * rank) + (output * group) + t] * b[(((output * rank) + (input * group) + t) * height) + (i % height)];
                    }

                    return sum;
                });
                return scale * (hybrid is null ? tiles : tiles + (module.Matrix("gralora_B_general.weight").Pick(rows) * hybrid));
            },
            target.Factor);
    }
}
