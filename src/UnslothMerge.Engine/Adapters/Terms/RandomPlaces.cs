using UnslothMerge.Adapters.Numerics;

namespace UnslothMerge.Adapters.Terms;

/// <summary>The random places in a matrix [out, in] that FourierFT and WaveFT train: torch.randperm's first, row by row.</summary>
internal static class RandomPlaces
{
    /// <summary>The seed of the places.</summary>
    public static long Seed(AdaptedModule module, int outputs, int inputs, StoredTensor values)
    {
        AdaptedModule.Require(
            values.Shape[0] <= (long)outputs * inputs,
            $"'{values.Name}' {values.Shape.Text()} has more values than the weight {module.Weight.Name} {module.Weight.Shape.Text()}");
        return (long)module.Config.ValueOf(module.Name, "random_loc_seed");
    }

    /// <summary>The places and their values.</summary>
    public static (int Row, int Column, double Value)[] Draw(long seed, int outputs, int inputs, double[] values)
    {
        var places = RandomPermutation.First(seed, (long)outputs * inputs, values.Length);
        return [.. places.Select((p, i) => ((int)(p / inputs), (int)(p % inputs), values[i]))];
    }
}
