namespace UnslothMerge.Planning;

/// <summary>What a plan's tensors need, cut into pieces of one size.</summary>
internal sealed class TensorNeeds
{
    // What a run adds for each tensor until it is shown: its result, its record, the object that shows it.
    private const int TensorBytes = 220;

    // Tensors with deltas of some of their rows need the more the more workers there are; all others need the same.
    private readonly List<WriteTensor> _partial;
    private readonly long _largest;
    private readonly long _sum;

    public TensorNeeds(WritePlan plan, int pieceBytes)
    {
        Plan = plan;
        PieceBytes = pieceBytes;
        WorkerBytes = Math.Min(ExecutionPlan.CopyBytes, 2L * pieceBytes);
        _partial = [];
        foreach (var tensor in plan.Tensors)
        {
            WorkerBytes = tensor.Verbatim is null ? Math.Max(WorkerBytes, tensor.Tiling.Memory.Worker) : WorkerBytes;
            if (tensor.Tiling.Memory.Partial > 0)
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

    /// <summary>What a run adds to the plan, which is made already.</summary>
    public long PlanBytes => TensorBytes * Plan.Shards.Sum(s => (long)s.Tensors.Length);

    /// <summary>What factors may take: as much as all tensors need, or as is usual, but no less than the largest needs.</summary>
    public long Resident(long usual, int workers)
    {
        var partial = _partial.Select(t => ResidentOf(t, workers)).ToList();
        return Math.Min(_sum + partial.Sum(), Math.Max(usual, Math.Max(_largest, partial.DefaultIfEmpty().Max())));
    }

    /// <summary>What shared tensors may take, likewise.</summary>
    public long Shared(long usual)
    {
        var tensors = Plan.Tensors.SelectMany(t => t.Tensor.Terms).SelectMany(t => t.Term.SharedInputs).Distinct();
        var lengths = tensors.Select(t => t.Length).Where(l => l <= InputFiles.SharedBytes).ToList();
        return Math.Min(lengths.Sum(), Math.Max(usual, lengths.DefaultIfEmpty().Max()));
    }

    /// <summary>The bytes that a tensor's deltas and its writer hold while it is in work. Deltas that depend on some rows are held for one
    /// piece per worker, and one more.</summary>
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

        var memory = tensor.Tiling.Memory;
        return tensor.Sink.ResidentBytes + memory.Scan + whole + Math.Min(parts, (workers * memory.Partial) + largest);
    }
}
