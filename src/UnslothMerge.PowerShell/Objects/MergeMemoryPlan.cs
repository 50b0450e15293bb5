namespace UnslothMerge.PowerShell;

/// <summary>The requirements of a merge. Merge-LoraModel runs the merge that is piped to it.</summary>
public sealed class MergeMemoryPlan
{
    internal MergeMemoryPlan(
        MergePlan merge, ExecutionPlan memory, long copiedBytes, IReadOnlyList<WriteShard> cloned, long diskBytes, long? freeDisk,
        long? freeTemporary, TimeSpan? time, string? obstacle)
    {
        Merge = merge;

        // A base whose files are not all in the cache yet is found again by its name.
        var streamed = PendingDownloads.Of(merge.InputFiles, streamed: true);
        Base = streamed.Concat(PendingDownloads.Of(merge.InputFiles)).FirstOrDefault().Model?.Pinned ?? merge.Base.Path;
        Stream = streamed.Count > 0;
        StreamBytes = streamed.Sum(d => d.Files.Sum(f => f.Length));
        Adapter = [.. merge.Steps.Select(s => s.Adapter.Path)];
        Weight = [.. merge.Steps.Select(s => s.Weight)];
        Architecture = merge.Base.Title;
        Parameters = merge.Tensors.Sum(t => t.View.Count);
        Shards = memory.Write.Shards.Length;
        Device = memory.Device;
        Workers = memory.Workers;
        PieceBytes = memory.PieceBytes;
        var tilings = memory.Write.Tensors.Where(t => t.Verbatim is null).Select(t => t.Tiling).ToList();
        TileRows = tilings.Select(t => t.TileRows).DefaultIfEmpty().Max();
        TileColumns = tilings.Select(t => t.TileColumns).DefaultIfEmpty().Max();
        ClonedBytes = cloned.Sum(s => s.OriginBytes);
        var headers = cloned.Sum(s => (long)s.Layout.Header.Length);
        CopiedBytes = memory.Stages.First(s => s.Name == "Copy").Written + copiedBytes - (ClonedBytes - headers);
        var stages = memory.Stages
            .Select(s =>
                s.Name == "Copy" ? s with { Read = CopiedBytes, Written = CopiedBytes, Disk = CopiedBytes }
                : s.Name == "Plan" ? s with { Written = s.Written - headers, Disk = s.Disk - headers } : s)
            .ToList();

        // What the process holds anyway, so that the stages add up.
        stages.Add(new MemoryStage("Process", 0, 0, memory.PeakHostBytes - stages.Sum(s => s.Host), 0, 0));
        stages.Add(new MemoryStage("Total", stages.Sum(s => s.Read), stages.Sum(s => s.Written), memory.PeakHostBytes,
            stages.Sum(s => s.Device), stages.Sum(s => s.Disk)));
        Stages = [.. stages.Select(s => new MergeMemoryStage(s))];
        PeakHostBytes = memory.PeakHostBytes;
        PeakDeviceBytes = memory.Stages.Sum(s => s.Device);
        OutputBytes = memory.Write.Bytes + copiedBytes;
        DiskBytes = diskBytes;
        LimitBytes = memory.LimitBytes;
        FreeHostBytes = HostMemory.Available;
        FreeDiskBytes = freeDisk;
        TemporaryBytes = Hub.Publishing.StreamedSave.ScratchBytes(memory.Write.Shards);
        FreeTemporaryBytes = freeTemporary;
        EstimatedSeconds = time?.TotalSeconds;
        var (missing, advice) = (new List<string>(), new List<string>());
        if (!memory.FitsMemory)
        {
            missing.Add($"{ByteSize.Text(memory.PeakHostBytes - memory.LimitBytes)} more memory");
            advice.Add($"raise -MaximumMemoryUsage to {ByteSize.Text(memory.EnoughBytes)}");
        }

        // All parts lie on one disk, if there is one.
        if (obstacle is null && freeDisk < DiskBytes)
        {
            missing.Add($"{ByteSize.Text(DiskBytes - freeDisk.Value)} more disk space");
            advice.Add("free some space or choose a -Destination on another disk");
        }

        if (obstacle is not null)
        {
            missing.Add("a destination that can be written");
            advice.Add($"choose another -Destination: {obstacle.TrimEnd('.')}");
        }

        Fits = missing.Count == 0;
        Missing = Fits ? null : string.Join(" and ", missing);
        Advice = Fits ? null : string.Join("; ", advice);
    }

    /// <summary>The directory of the base, or its name on the Hub while it is not in the cache.</summary>
    public string Base { get; }

    /// <summary>The directories of the adapters.</summary>
    public string[] Adapter { get; }

    /// <summary>The weights of the adapters.</summary>
    public double[] Weight { get; }

    /// <summary>The requirements per stage; the last one is the total.</summary>
    public MergeMemoryStage[] Stages { get; }

    /// <summary>The class of the base.</summary>
    public string Architecture { get; }

    /// <summary>The number of elements of all tensors.</summary>
    public long Parameters { get; }

    /// <summary>The number of shards.</summary>
    public int Shards { get; }

    /// <summary>The device that merges.</summary>
    public string Device { get; }

    /// <summary>The number of threads.</summary>
    public int Workers { get; }

    /// <summary>The approximate number of bytes that a thread reads, changes and writes at a time; at least one row.</summary>
    public int PieceBytes { get; }

    /// <summary>The number of rows of the largest tile; a piece is computed in tiles.</summary>
    public int TileRows { get; }

    /// <summary>The number of columns of the largest tile.</summary>
    public int TileColumns { get; }

    /// <summary>The peak memory of the whole process.</summary>
    public long PeakHostBytes { get; }

    /// <summary>The peak memory of the device.</summary>
    public long PeakDeviceBytes { get; }

    /// <summary>The size of the output's weights in bytes.</summary>
    public long OutputBytes { get; }

    /// <summary>The bytes of the output whose blocks on the disk are shared with the base, as far as the destination allows it: they are
    /// neither read nor written.</summary>
    public long ClonedBytes { get; }

    /// <summary>The bytes of the output that are written.</summary>
    public long WrittenBytes => OutputBytes - ClonedBytes;

    /// <summary>Those of them that are copied from the base.</summary>
    public long CopiedBytes { get; }

    /// <summary>The bytes that the disk of the destination must have free, for all parts.</summary>
    public long DiskBytes { get; }

    /// <summary>The memory limit of the process.</summary>
    public long LimitBytes { get; }

    /// <summary>The free memory.</summary>
    public long FreeHostBytes { get; }

    /// <summary>The free bytes at the destination; null if unknown.</summary>
    public long? FreeDiskBytes { get; }

    /// <summary>The bytes of files at the temporary location if the model is published without a destination: two shards.</summary>
    public long TemporaryBytes { get; }

    /// <summary>The free bytes at the temporary location; null if unknown.</summary>
    public long? FreeTemporaryBytes { get; }

    /// <summary>What is saved.</summary>
    public string Method { get; init; } = nameof(SaveMethod.merged_16bit);

    /// <summary>The maximum size of a shard.</summary>
    public string MaxShardSize { get; init; } = "";

    /// <summary>True if memory and disk suffice, and the destination can be written.</summary>
    public bool Fits { get; }

    /// <summary>What is missing; null if it fits.</summary>
    public string? Missing { get; }

    /// <summary>What to change; null if it fits.</summary>
    public string? Advice { get; }

    internal MergePlan Merge { get; }

    internal IReadOnlyList<LogicalTensor> Tensors { get; init; } = [];

    internal IReadOnlyDictionary<int, double> Strengths { get; init; } = new Dictionary<int, double>();

    internal Common.PlannedOutput? Planned { get; init; }

    /// <summary>The approximate seconds of planning and saving, from a short measurement of the cores and the disk of the destination.
    /// Reading a base from a slow disk takes longer. Null if nothing can be written at the destination.</summary>
    public double? EstimatedSeconds { get; }

    /// <summary>The part, such as 3/16; null for the whole merge.</summary>
    public string? Part { get; internal init; }

    /// <summary>The approximate seconds of the whole merge: with -PartCount those of the slowest part, if all workers are as fast as this
    /// machine and the disk has room for all of them, and of verifying the shards at the end; else EstimatedSeconds.</summary>
    public double? WallSeconds { get; internal init; }

    /// <summary>True if the weights of the base are read from the Hub while they are merged, and not kept.</summary>
    public bool Stream { get; }

    /// <summary>The bytes that are read from the Hub so.</summary>
    public long StreamBytes { get; }

    /// <summary>The bytes that are downloaded from the Hub first.</summary>
    public long DownloadBytes { get; internal init; }

    /// <summary>The approximate seconds of the download, or of reading from the Hub, from a short measurement; null for neither.</summary>
    public double? DownloadSeconds { get; internal init; }

    public override string ToString() => Base;
}

/// <summary>The requirements of one stage of a merge, in bytes.</summary>
public sealed class MergeMemoryStage
{
    internal MergeMemoryStage(MemoryStage stage)
    {
        Stage = stage.Name;
        Read = stage.Read;
        Written = stage.Written;
        Host = stage.Host;
        Device = stage.Device;
        Disk = stage.Disk;
    }

    /// <summary>The stage: Plan, Adapter, Merge, Copy, Process (what runs anyway) or Total.</summary>
    public string Stage { get; }

    /// <summary>Read from the base and the adapters.</summary>
    public long Read { get; }

    /// <summary>Written to the output.</summary>
    public long Written { get; }

    /// <summary>Held in memory; the total includes the rest of the process.</summary>
    public long Host { get; }

    /// <summary>Held in the memory of the device.</summary>
    public long Device { get; }

    /// <summary>Needed on the disk of the destination.</summary>
    public long Disk { get; }

    public override string ToString() => Stage;
}
