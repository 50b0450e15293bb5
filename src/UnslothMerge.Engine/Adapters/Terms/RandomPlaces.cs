using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>The random places in a matrix [out, in] that FourierFT and WaveFT train: torch.randperm's first, row by row.</summary>
public static class RandomPlaces
{
    /// <summary>The seed of the places.</summary>
    /// <exception cref="MisfitException">The weight has fewer places than there are values.</exception>
    public static long Seed(ModuleParts parts, int outputs, int inputs, StoredTensor values)
    {
        ModuleParts.Require(values.Shape[0] <= (long)outputs * inputs, $"'{values.Name}' {values.Shape.Text()} has more values than the weight {parts.Weight.Name} {parts.Weight.Shape.Text()}");
        return (long)parts.Config.ValueOf(parts.Module, "random_loc_seed");
    }

    /// <summary>The places and their values.</summary>
    public static (int Row, int Column, double Value)[] Draw(long seed, int outputs, int inputs, double[] values)
    {
        var places = RandomPermutation.First(seed, (long)outputs * inputs, values.Length);
        return [.. places.Select((p, i) => ((int)(p / inputs), (int)(p % inputs), values[i]))];
    }
}
