namespace UnslothMerge.IO;

/// <summary>The parts of a buffer begin at cache lines, so that no vector crosses one.</summary>
internal static class CacheLine
{
    public const int Size = 64;

    /// <summary>Rounds a length or a place up to a whole line.</summary>
    public static long Align(long bytes) => (bytes + Size - 1) & -Size;
}
