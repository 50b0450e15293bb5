using UnslothMerge.Adapters.Kinds;

namespace UnslothMerge.Adapters;

/// <summary>The kinds of adapters that can be merged.</summary>
internal static class AdapterKinds
{
    /// <summary>One row per kind; where several know the same tensors, the first that finds its place takes them.</summary>
    public static IReadOnlyList<AdapterKind> Table { get; } =
    [
        new LoraParameters(),
        new LoraSlice(),
        new LoraLayer(),
        new LoraAttention(),
        new LoraEmbedding(),
        new LoraTrainingState(),
        new TrainedTokens("LORA", "trainable_token_indices"),
        new TrainedTokens("TRAINABLE_TOKENS", "token_indices"),
        new Ia3(),
        new LnTuning(),
        new Beft(),
        new Oft("oft_R.weight", ofOutput: false),
        new Oft("oft_embedding_R.weight", ofOutput: true),
        new Boft(),
        new Hra(),
        new Road(),
        new Glora(),
        new Osf(),
        new Frod(),
        new AdaLora(),
        new C3A(),
        new Deft(),
        new DeLora(),
        new FourierFt(),
        new GraLora(),
        new Hira(),
        new HiraEmbedding(),
        new LoHa(),
        new LoKr(),
        new Miss(),
        new Peanut(),
        new Vera("PVeRA", "pvera", probabilistic: true),
        new RandLora(),
        new Shira(),
        new SuperTuning(),
        new TinyLora(),
        new UniLora(),
        new VbLora(),
        new Vera("VeRA", "vera", probabilistic: false),
        new WaveFt(),
    ];

    /// <summary>Every part that a kind stores, longest first so that none hides another.</summary>
    public static IReadOnlyList<string> Parts { get; } = [.. Table.SelectMany(k => k.Parts).Distinct().OrderByDescending(p => p.Length)];
}
