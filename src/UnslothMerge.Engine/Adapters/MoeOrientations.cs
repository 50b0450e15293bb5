namespace UnslothMerge.Adapters;

/// <summary>Along which dimension of an expert parameter [experts, …, …] PEFT lays A, where the shape does not say it: it changed with its
/// releases, and depends on whether the module keeps its experts [in, out] (<c>is_transposed</c> in transformers 5). Source: PEFT,
/// <c>lora.ParamWrapper</c>.</summary>
internal static class MoeOrientations
{
    private static readonly Version SwappedAll = new(0, 19, 0);
    private static readonly Version SwappedPlain = new(0, 19, 1);

    // Modules that say is_transposed.
    private static readonly string[] Transposed = ["gpt_oss", "aria", "aria_text"];

    // Stored the other way round than at run time on the hub, but not after a save by transformers 5. Source: conversion_mapping.py.
    private static readonly string[] StoredEitherWay = ["qwen3_vl_moe", "qwen3_vl_moe_text"];

    /// <summary>True if A lies along the last dimension of the parameter at run time, false if along the second, null if that is not
    /// known.</summary>
    public static bool? IsLast(AdapterConfig config, BaseParameters model, int experts)
    {
        var transposed = Transposed.Any(model.ModelTypes.Contains);
        return model.MoeOrientation is { } given ? given == MoeOrientation.InLast
            : experts == 1 ? true // a stack of one is adapted as a matrix
            : config.PeftVersion is not { } version ? (transposed ? false : null) // before 0.18, which wrote no version, always the second
            : version >= SwappedPlain ? !transposed
            : version >= SwappedAll && transposed;
    }

    /// <summary>True if the base stores a module's experts the other way round than they are at run time; null if that is not
    /// known.</summary>
    public static bool? IsStoredOtherwise(BaseParameters model, string module)
    {
        var split = model.Experts(module).Count > 0;
        return StoredEitherWay.Any(model.ModelTypes.Contains) ? ExpertLayout.IsStoredTransposed(model, module)
            : split && Transposed.Any(model.ModelTypes.Contains);
    }
}
