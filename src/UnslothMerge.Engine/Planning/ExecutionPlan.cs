using UnslothMerge.Hub.Fetching;

namespace UnslothMerge.Planning;

/// <summary>
/// What is executed: a model's tensors, cut into pieces, with as many threads and as much memory as the limit allows. All that it needs is
/// known before anything is written, and the executor keeps to it.
/// </summary>
internal sealed class ExecutionPlan
{
    /// <summary>The length of a worker's buffer for copies, and of a piece.</summary>
    public const int CopyBytes = Tiling.PieceBytes;

    // The factors of all tensors in work may take so much, or as much as the largest tensor needs. Tensors that several targets share,
    // likewise.
    private const long UsualResidentBytes = 96L * 1000 * 1000;
    private const long UsualSharedBytes = 64L * 1000 * 1000;

    // What a merge adds to the process at most, unless one worker needs more: more threads would not be faster than the disk.
    private const long UsualGrowthBytes = 384L * 1000 * 1000;

    // What the runtime grows by while the merge runs (compiled code, small objects), and what a thread takes: its stack, its share of
    // the heap.
    private const long RuntimeBytes = 32L * 1000 * 1000;
    private const long ThreadBytes = 256L * 1000;

    // As many pieces as may wait to be written: enough to bridge the time of one write.
    private const int MaxQueued = 8;

    private readonly TensorNeeds _needs;
    private readonly Bounds _bounds;

    private ExecutionPlan(TensorNeeds needs, int workers, long residentBytes, long sharedBytes, Bounds bounds)
    {
        _needs = needs;
        _bounds = bounds;
        (Workers, ResidentBytes, SharedBytes) = (workers, residentBytes, sharedBytes);
        PeakHostBytes = bounds.Baseline + RuntimeBytes + needs.PlanBytes + residentBytes + sharedBytes + StreamBytes
            + (workers * ThreadBytes) + BufferBytes + (bounds.Device?.HostBytes ?? 0);
    }

    /// <summary>What is written, cut into pieces that the limit allows.</summary>
    public WritePlan Write => _needs.Plan;

    /// <summary>The number of threads.</summary>
    public int Workers { get; }

    /// <summary>Where the arithmetic is done.</summary>
    public string Device => _bounds.Device?.Name ?? "cpu";

    /// <summary>The bytes of a piece, about; more where a single row has more.</summary>
    public int PieceBytes => _needs.PieceBytes;

    /// <summary>The buffers of one worker.</summary>
    public long WorkerBytes => _needs.WorkerBytes;

    /// <summary>The number of buffers, each as long as a piece, for what is queued or on its way past the page cache.</summary>
    public int BufferCount => DirectWrites.BuffersOf(PieceBytes) + (Workers > 1 ? Math.Min(Workers, MaxQueued) : 0);

    /// <summary>The most that the factors shared by all workers take at the same time.</summary>
    public long ResidentBytes { get; }

    /// <summary>The most that tensors take which several targets share.</summary>
    public long SharedBytes { get; }

    // The blocks of a base that is read from the Hub.
    private long StreamBytes => Streamed.Count > 0 ? HubStream.MemoryBytes : 0;

    private IReadOnlyList<(HubModel Model, IReadOnlyList<HubFile> Files)> Streamed =>
        PendingDownloads.Of(Write.Merge.InputFiles, streamed: true);

    /// <summary>The stages.</summary>
    public ImmutableArray<MemoryStage> Stages => [.. StagesOf()];

    /// <summary>The most memory that the process takes, everything included: what it has now, the runtime's growth, and the
    /// stages.</summary>
    public long PeakHostBytes { get; }

    /// <summary>The most memory that the process may take.</summary>
    public long LimitBytes => _bounds.Bytes;

    /// <summary>True if the merge keeps within the limit.</summary>
    public bool FitsMemory => PeakHostBytes <= LimitBytes;

    /// <summary>A limit that would do, if this one does not: somewhat more, since it is rounded and the process grows until the next
    /// try.</summary>
    public long EnoughBytes => PeakHostBytes + (PeakHostBytes / 20);

    /// <summary>Plans for as many workers as the limit allows; for smaller pieces, where one worker has not enough; then for no sharing.
    /// The baseline is what the process holds already: its working set, if null.</summary>
    public static ExecutionPlan For(WritePlan plan, MemoryLimit limit, int workers, DeviceNeed? device = null, long? baseline = null)
    {
        var needs = new TensorNeeds(plan, Tiling.PieceBytes);
        Garbage.Release(plan.Shards.Sum(s => s.Tensors.Length));
        var made = Within(baseline ?? Environment.WorkingSet);
        if (made.FitsMemory || baseline is not null)
        {
            return made;
        }

        // What planning has left over goes back to the system first.
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        return Within(Environment.WorkingSet);

        ExecutionPlan Within(long held) => new ExecutionPlan(
                needs, workers, needs.Resident(UsualResidentBytes, workers), needs.Shared(UsualSharedBytes), new(limit.Bytes, held, device))
            .WithFewerWorkers()
            .WithSmallerPieces()
            .WithoutShared();
    }

    // First without room for a second tensor's factors, then one thread less.
    private ExecutionPlan WithFewerWorkers()
    {
        var plan = this;
        while ((!plan.FitsMemory || plan.PeakHostBytes > _bounds.Baseline + UsualGrowthBytes) && plan.Workers > 1)
        {
            var hasRoom = plan.ResidentBytes > _needs.Resident(0, plan.Workers);
            plan = plan.With(_needs, plan.Workers - (hasRoom ? 0 : 1), SharedBytes);
        }

        return plan;
    }

    private ExecutionPlan WithSmallerPieces()
    {
        var plan = this;
        while (!plan.FitsMemory && plan.PieceBytes > Tiling.MinPieceBytes)
        {
            var bytes = plan.PieceBytes / 2;
            plan = plan.With(new TensorNeeds(plan.Write.WithPieces(bytes), bytes), Workers, SharedBytes);
        }

        return plan;
    }

    // Every target then reads for itself what lies scattered over the whole of a shared tensor: slow, but possible.
    private ExecutionPlan WithoutShared() => FitsMemory || SharedBytes == 0 ? this : With(_needs, Workers, 0);

    private ExecutionPlan With(TensorNeeds needs, int workers, long sharedBytes) =>
        new(needs, workers, needs.Resident(0, workers), sharedBytes, _bounds);

    /// <summary>Refuses a merge that does not fit.</summary>
    public void RequireFit()
    {
        if (!FitsMemory)
        {
            var (needed, limit) = ByteSize.Distinct(PeakHostBytes, LimitBytes);
            throw new MergeException(
                MergeError.DoesNotFit,
                $"The merge needs {needed} of memory with one worker and the smallest pieces, but only {limit} may be used.",
                "MaximumMemoryUsage",
                $"Raise -MaximumMemoryUsage to {ByteSize.Text(EnoughBytes)}, or free some memory.");
        }
    }

    private long BufferBytes => (Workers * WorkerBytes) + PieceBuffers.MemoryFor(BufferCount, PieceBytes);

    private IEnumerable<MemoryStage> StagesOf()
    {
        var merged = Write.Tensors.Where(t => t.Verbatim is null).ToList();
        var copied = Write.Tensors.Where(t => t.Verbatim is not null).Sum(t => t.Bytes);
        var headers = Write.Shards.Sum(s => (long)s.Layout.Header.Length);
        var inputs = merged.SelectMany(t => t.Tensor.Terms).SelectMany(t => t.Term.Inputs).Distinct().Sum(i => i.Length);
        yield return new MemoryStage("Plan", headers, headers, _needs.PlanBytes, 0, headers);
        yield return new MemoryStage("Adapter", inputs, 0, ResidentBytes + SharedBytes, 0, 0);
        var written = merged.Sum(t => t.Bytes);
        var read = merged.Sum(t => t.Tensor.Source.Inputs.Sum(i => i.Length));
        var surveyed = merged.Where(t => t.Sink.SurveySet is not null).ToList();
        if (surveyed.Count > 0)
        {
            yield return new MemoryStage("Survey", surveyed.Sum(t => t.Tensor.Source.Inputs.Sum(i => i.Length)), 0, BufferBytes, 0, 0);
        }

        var (host, device) = (_bounds.Device?.HostBytes ?? 0, _bounds.Device?.DeviceBytes ?? 0);
        yield return new MemoryStage("Merge", read, written, BufferBytes + host, device, written);
        yield return new MemoryStage("Copy", copied, copied, 0, 0, copied);
        if (StreamBytes > 0)
        {
            yield return new MemoryStage("Stream", Streamed.Sum(s => s.Files.Sum(f => f.Length)), 0, StreamBytes, 0, 0);
        }
    }

    /// <summary>What the plan must keep to.</summary>
    private sealed record Bounds(long Bytes, long Baseline, DeviceNeed? Device);
}
