using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// LoRA on an embedding: W + s·(BA)ᵀ with A [r, V] and B [D, r], for W [V, D]; with a magnitude vector [D] DoRA.
/// Source: PEFT 0.21, <c>lora.Embedding</c>.
/// </summary>
public sealed class LoraEmbedding : AdapterKind
{
    private const string A = "lora_embedding_A";
    private const string B = "lora_embedding_B";

    /// <inheritdoc/>
    public override string Name => "LoRA";

    /// <inheritdoc/>
    public override string PeftType => "LORA";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [A, B, .. Magnitude.Parts];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight || (module.Find(A) ?? module.Find(B)) is null)
        {
            return false;
        }

        if (LoraPair.Find(module, target, A, B) is not { } pair)
        {
            return true;
        }

        long[] delta = [pair.Inputs, pair.Outputs];
        if (!weight.Shape.SequenceEqual(delta))
        {
            target.Problem(module, $"the delta is {delta.Text()}, the weight {weight.Name} is {weight.Shape.Text()}");
            return true;
        }

        var kind = Magnitude.Find(module) is null ? Name : "DoRA";
        target.Add(weight, module.Module, new LowRankTerm(kind, pair.MatrixA.Transpose(), pair.MatrixB.Transpose(), pair.Scaling));
        Magnitude.Bind(module, target, weight, byColumn: true, pair.Outputs);
        return true;
    }
}
