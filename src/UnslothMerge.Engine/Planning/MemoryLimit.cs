namespace UnslothMerge.Planning;

/// <summary>The most memory that this process may take.</summary>
internal readonly record struct MemoryLimit(long Bytes);
