namespace UnslothMerge.Planning;

/// <summary>What one stage of a merge (Plan, Adapter, Survey, Merge or Copy) needs, in bytes: read, written, held at the same time in
/// host and device memory, taken on the destination's disk.</summary>
internal sealed record MemoryStage(string Name, long Read, long Written, long Host, long Device, long Disk);

/// <summary>What a device needs: the most of its own memory, and of host memory for the transfers.</summary>
internal sealed record DeviceNeed(string Name, long DeviceBytes, long HostBytes);
