namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoRA on an embedding: W + s·(BA)ᵀ with A [r, V] and B [D, r], for W [V, D]; with a magnitude vector [D] DoRA. Source: PEFT
/// 0.21, <c>lora.Embedding</c>.</summary>
internal sealed class LoraEmbedding() : WeightKind("LoRA", "LORA", [A, B, .. Magnitude.Parts])
{
    private const string A = "lora_embedding_A";
    private const string B = "lora_embedding_B";

    protected override ModuleChanges? Changes(AdaptedModule module, TargetTensor weight)
    {
        if (!module.Has(A) && !module.Has(B))
        {
            return null;
        }

        var pair = LoraPair.Of(module, A, B);
        AdaptedModule.RequireFit(weight, pair.Inputs, pair.Outputs);
        var delta = pair.Delta(Magnitude.KindOf(module), transposed: true);
        return new ModuleChanges([new TensorChange(weight, delta), .. Magnitude.Of(module, weight, byColumn: true, pair.Outputs)]);
    }
}
