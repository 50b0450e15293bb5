namespace UnslothMerge.Planning;

/// <summary>What one stage of a merge needs, in bytes.</summary>
/// <param name="Name">Plan, Adapter, Merge or Copy.</param>
/// <param name="Read">Read from the base and the adapters.</param>
/// <param name="Written">Written to the output.</param>
/// <param name="Host">Held in memory at the same time.</param>
/// <param name="Device">Held in a device's memory at the same time.</param>
/// <param name="Disk">Taken on the destination's disk.</param>
internal sealed record MemoryStage(string Name, long Read, long Written, long Host, long Device, long Disk);

/// <summary>What a device needs besides.</summary>
/// <param name="Name">The device.</param>
/// <param name="DeviceBytes">The most of its own memory.</param>
/// <param name="HostBytes">The most host memory, for what goes up and comes down.</param>
internal sealed record DeviceNeed(string Name, long DeviceBytes, long HostBytes);
