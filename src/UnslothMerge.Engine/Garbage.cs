namespace UnslothMerge;

/// <summary>What work on many tensors leaves behind. The runtime would keep it, and a limit of memory counts it.</summary>
internal static class Garbage
{
    // A collection takes a tenth of a second for each hundred megabytes that are kept.
    private const int Many = 50_000;

    /// <summary>Gives it back to the system, if there were many; gives the number of those whose garbage is still there.</summary>
    public static int Release(int tensors)
    {
        if (tensors < Many)
        {
            return tensors;
        }

        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        return 0;
    }
}
