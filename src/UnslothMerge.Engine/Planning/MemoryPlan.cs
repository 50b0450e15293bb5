using System.Collections.Immutable;
using UnslothMerge.IO;

namespace UnslothMerge.Planning;

/// <summary>What one stage of a merge needs, in bytes.</summary>
/// <param name="Name">Plan, Adapter, Merge or Copy.</param>
/// <param name="Read">Read from the base and the adapters.</param>
/// <param name="Written">Written to the output.</param>
/// <param name="Host">Held in memory at the same time.</param>
/// <param name="Device">Held in a device's memory at the same time.</param>
/// <param name="Disk">Taken on the destination's disk.</param>
public sealed record MemoryStage(string Name, long Read, long Written, long Host, long Device, long Disk);

/// <summary>What a device needs besides.</summary>
/// <param name="Name">The device.</param>
/// <param name="DeviceBytes">The most of its own memory.</param>
/// <param name="HostBytes">The most host memory, for what goes up and comes down.</param>
public sealed record DeviceNeed(string Name, long DeviceBytes, long HostBytes);

/// <summary>What a merge will need, known before anything is written; the executor keeps to it.</summary>
public sealed class MemoryPlan
{
    /// <summary>The shared factors of all targets in work may take this much, or as much as the largest target needs.</summary>
    private const long UsualResidentBytes = 96L * 1000 * 1000;

    /// <summary>What a merge adds to the process at most as long as one worker can do with less: more threads than that would not be faster than the disk.</summary>
    private const long UsualGrowthBytes = 384L * 1000 * 1000;

    /// <summary>Tensors that several targets share are held in this much, or as much as the largest takes.</summary>
    private const long UsualSharedBytes = 64L * 1000 * 1000;

    /// <summary>What the runtime itself may grow by while the merge runs: compiled code, small objects.</summary>
    private const long RuntimeBytes = 32L * 1000 * 1000;

    /// <summary>What a thread takes besides its buffers: its stack, and its share of the heap.</summary>
    private const long ThreadBytes = 256L * 1000;

    /// <summary>What each worker usually has at least: the buffer to copy through, of the size of a piece.</summary>
    public const int CopyBytes = Tiling.PieceBytes;

    /// <summary>As many pieces as may wait to be written: enough to bridge what one write takes.</summary>
    private const int MostSpares = 8;

    private readonly DeviceNeed? _device;

    private MemoryPlan(Needs needs, int workers, long residentBytes, long sharedBytes, long limit, long baseline, DeviceNeed? device)
    {
        _device = device;
        Write = needs.Plan;
        Workers = workers;
        PieceBytes = needs.PieceBytes;
        ResidentBytes = residentBytes;
        SharedBytes = sharedBytes;
        LimitBytes = limit;
        WorkerBytes = needs.WorkerBytes;
        PeakHostBytes = baseline + RuntimeBytes + needs.HeaderBytes + residentBytes + sharedBytes + (workers * ThreadBytes) + BufferBytes + (device?.HostBytes ?? 0);
    }

    /// <summary>What is written, cut into pieces that the limit allows.</summary>
    public WritePlan Write { get; }

    /// <summary>The number of threads.</summary>
    public int Workers { get; }

    /// <summary>Where the arithmetic is done.</summary>
    public string Device => _device?.Name ?? "cpu";

    /// <summary>The bytes of a piece, about; more where a single row has more.</summary>
    public int PieceBytes { get; }

    /// <summary>The buffers of one worker.</summary>
    public long WorkerBytes { get; }

    /// <summary>The number of buffers of a piece's size for what waits to be written.</summary>
    public int Spares => Workers > 1 ? Math.Min(Workers, MostSpares) : 0;

    /// <summary>The most that the factors shared by all workers take at the same time.</summary>
    public long ResidentBytes { get; }

    /// <summary>The most that tensors take which several targets share.</summary>
    public long SharedBytes { get; }

    /// <summary>The stages.</summary>
    public ImmutableArray<MemoryStage> Stages => [.. StagesOf()];

    /// <summary>The most memory that the process takes, everything included: what it has now, the runtime's growth, and the stages.</summary>
    public long PeakHostBytes { get; }

    /// <summary>The most memory that the process may take.</summary>
    public long LimitBytes { get; }

    /// <summary>True if the merge keeps within the limit.</summary>
    public bool FitsMemory => PeakHostBytes <= LimitBytes;

    /// <summary>A limit that would do, if this one does not. Somewhat more than the figure: it is rounded, and the next plan finds the process a little larger.</summary>
    public long EnoughBytes => PeakHostBytes + (PeakHostBytes / 20);

    /// <summary>Plans for as many workers as the limit allows; then for smaller pieces, where one worker has not enough.</summary>
    /// <param name="plan">What is written.</param>
    /// <param name="limit">How much memory may be taken.</param>
    /// <param name="workers">The most threads.</param>
    /// <param name="device">What a device needs, if one takes some of the tensors.</param>
    /// <param name="baseline">What the process takes already; its working set, if not said.</param>
    public static MemoryPlan For(WritePlan plan, MemoryLimit limit, int workers, DeviceNeed? device = null, long? baseline = null)
    {
        var before = baseline ?? Environment.WorkingSet;
        var needs = new Needs(plan, Tiling.PieceBytes);
        var shared = needs.Shared(UsualSharedBytes);
        var memory = With(needs.Resident(UsualResidentBytes, workers));
        while ((!memory.FitsMemory || memory.PeakHostBytes > before + UsualGrowthBytes) && workers > 1)
        {
            var least = needs.Resident(0, workers);
            workers -= memory.ResidentBytes > least ? 0 : 1;
            memory = With(needs.Resident(0, workers));
        }

        while (!memory.FitsMemory && needs.PieceBytes > Tiling.MinPieceBytes)
        {
            needs = new Needs(plan.WithPieces(needs.PieceBytes / 2), needs.PieceBytes / 2);
            memory = With(needs.Resident(0, workers));
        }

        if (!memory.FitsMemory && shared > 0)
        {
            // Every target then reads for itself what lies scattered over the whole of such a tensor: slow, but possible.
            shared = 0;
            memory = With(needs.Resident(0, workers));
        }

        return memory;

        MemoryPlan With(long resident) => new(needs, workers, resident, shared, limit.Bytes, before, device);
    }

    /// <summary>Refuses a merge that does not fit.</summary>
    /// <exception cref="MergeException">It does not.</exception>
    public void RequireFit()
    {
        if (!FitsMemory)
        {
            throw new MergeException(
                MergeError.DoesNotFit,
                $"The merge needs {ByteSize.Text(PeakHostBytes)} of memory with one worker and the smallest pieces, but only {ByteSize.Text(LimitBytes)} may be used.",
                "MaximumMemoryUsage",
                $"Raise -MaximumMemoryUsage to {ByteSize.Text(EnoughBytes)}, or free some memory.");
        }
    }

    /// <summary>The bytes that a tensor's deltas and its writer hold while it is in work.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="workers">The number of threads. Deltas of some of its rows come and go: so many pieces' are there at once, and one more that is half done.</param>
    public static long ResidentOf(WriteTensor tensor, int workers)
    {
        var (whole, parts, largest) = (0L, 0L, 0L);
        foreach (var term in tensor.Tensor.Terms.Select(t => t.Term))
        {
            var bytes = term.ResidentBytes;
            whole += term.Rows is null ? bytes : 0;
            parts += term.Rows is null ? 0 : bytes;
            largest = term.Rows is null ? largest : Math.Max(largest, bytes);
        }

        return tensor.Sink.ResidentBytes + tensor.Tiling.ScanBytes + whole + Math.Min(parts, (workers * tensor.Tiling.PartialBytes) + largest);
    }

    private long BufferBytes => (Workers * WorkerBytes) + ((long)Spares * PieceBytes) + DirectWrites.MemoryFor(PieceBytes);

    private IEnumerable<MemoryStage> StagesOf()
    {
        var merged = Write.Tensors.Where(t => t.Verbatim is null).ToList();
        var copied = Write.Tensors.Where(t => t.Verbatim is not null).Sum(t => t.Bytes);
        var headers = Write.Shards.Sum(s => (long)s.Layout.Header.Length);
        var inputs = merged.SelectMany(t => t.Tensor.Terms).SelectMany(t => t.Term.Inputs).Distinct().Sum(i => i.Length);
        yield return new MemoryStage("Plan", headers, headers, Needs.HeaderFactor * headers, 0, headers);
        yield return new MemoryStage("Adapter", inputs, 0, ResidentBytes + SharedBytes, 0, 0);
        var written = merged.Sum(t => t.Bytes);
        yield return new MemoryStage("Merge", merged.Sum(t => t.Tensor.Source.Inputs.Sum(i => i.Length)), written, BufferBytes + (_device?.HostBytes ?? 0), _device?.DeviceBytes ?? 0, written);
        yield return new MemoryStage("Copy", copied, copied, 0, 0, copied);
    }

    // What a plan's tensors need, cut into pieces of one size.
    private sealed class Needs
    {
        public const int HeaderFactor = 4;

        // Tensors with deltas of some of their rows need the more the more workers there are; all others need the same.
        private readonly List<WriteTensor> _partial;
        private readonly long _largest;
        private readonly long _sum;

        public Needs(WritePlan plan, int pieceBytes)
        {
            Plan = plan;
            PieceBytes = pieceBytes;
            WorkerBytes = Math.Min(CopyBytes, 2L * pieceBytes);
            _partial = [];
            foreach (var tensor in plan.Tensors)
            {
                WorkerBytes = tensor.Verbatim is null ? Math.Max(WorkerBytes, tensor.Tiling.WorkerBytes) : WorkerBytes;
                if (tensor.Tiling.PartialBytes > 0)
                {
                    _partial.Add(tensor);
                }
                else
                {
                    var bytes = ResidentOf(tensor, 1);
                    _largest = Math.Max(_largest, bytes);
                    _sum += bytes;
                }
            }
        }

        public WritePlan Plan { get; }

        public int PieceBytes { get; }

        public long WorkerBytes { get; }

        public long HeaderBytes => HeaderFactor * Plan.Shards.Sum(s => (long)s.Layout.Header.Length);

        // As much as all tensors need, or as is usual, but no less than the largest needs.
        public long Resident(long usual, int workers)
        {
            var partial = _partial.Select(t => ResidentOf(t, workers)).ToList();
            return Math.Min(_sum + partial.Sum(), Math.Max(usual, Math.Max(_largest, partial.DefaultIfEmpty().Max())));
        }

        public long Shared(long usual)
        {
            var tensors = Plan.Tensors.SelectMany(t => t.Tensor.Terms).SelectMany(t => t.Term.SharedInputs).Distinct();
            var lengths = tensors.Select(t => t.Length).Where(l => l <= InputFiles.SharedBytes).ToList();
            return Math.Min(lengths.Sum(), Math.Max(usual, lengths.DefaultIfEmpty().Max()));
        }
    }
}
