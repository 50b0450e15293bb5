namespace UnslothMerge.Adapters.Terms;

/// <summary>Stores the result of a change that is not a sum.</summary>
internal static class TileValue
{
    /// <summary>Makes weight + delta the result, to fp32 precision of the result. The delta is what the result differs from the weight,
    /// except where the result is so small beside the weight that their difference could not hold it.</summary>
    public static void Set(ref float weight, ref float delta, double result)
    {
        if (Math.Abs(result) < Math.Abs(weight) / 4)
        {
            weight = (float)result;
            delta = 0;
        }
        else
        {
            delta = (float)(result - weight);
        }
    }
}
