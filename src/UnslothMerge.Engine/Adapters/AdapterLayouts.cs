using UnslothMerge.Adapters.Trainers;

namespace UnslothMerge.Adapters;

/// <summary>The layouts that are read. The first that knows a folder reads it.</summary>
internal static class AdapterLayouts
{
    public static IReadOnlyList<AdapterLayout> Table { get; } = [new Mlx(), new Torchtune(), new PeftLayout(), new Diffusion()];
}
