using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>The random places in a matrix [out, in] that FourierFT and WaveFT train: torch.randperm's first, row by row.</summary>
public static class RandomPlaces
{
    /// <summary>The seed, if the places can be drawn from it.</summary>
    /// <exception cref="MisfitException">They cannot.</exception>
    public static long Seed(ModuleParts parts, int outputs, int inputs, StoredTensor values)
    {
        var length = (long)outputs * inputs;
        ModuleParts.Require(values.Shape[0] <= length, $"'{values.Name}' {values.Shape.Text()} has more values than the weight {parts.Weight.Name} {parts.Weight.Shape.Text()}");
        ModuleParts.Require(length < RandomPermutation.MaxLength, $"the weight {parts.Weight.Name} {parts.Weight.Shape.Text()} is too large: torch draws the places of its {values.Name} by another algorithm");
        return (long)parts.Config.ValueOf(parts.Module, "random_loc_seed");
    }

    /// <summary>The places and their values.</summary>
    public static (int Row, int Column, double Value)[] Draw(long seed, int outputs, int inputs, double[] values)
    {
        var places = RandomPermutation.First(seed, outputs * inputs, values.Length);
        return [.. places.Select((p, i) => (p / inputs, p % inputs, values[i]))];
    }
}
