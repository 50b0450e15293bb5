namespace UnslothMerge.IO;

/// <summary>The parts of a buffer each begin on a cache line, so that vectors of every width lie within one.</summary>
internal static class CacheLine
{
    /// <summary>The bytes of a line.</summary>
    public const int Size = 64;

    /// <summary>Rounds a length or a place up to a whole line.</summary>
    public static long Align(long bytes) => (bytes + Size - 1) & -Size;
}
