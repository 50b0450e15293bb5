namespace UnslothMerge.Execution;

/// <summary>A shard in work.</summary>
internal sealed class OpenShard(ShardFile file, ShardWriter writer)
{
    private readonly List<TensorResult> _results = new(file.Shard.Tensors.Length);
    private long _begun;

    public ShardFile File => file;

    public ShardWriter Writer => writer;

    /// <summary>Those of its tensors, in the order of the model.</summary>
    public IReadOnlyList<TensorResult> Results
    {
        get
        {
            _results.Sort((a, b) => a.Tensor.Ordinal.CompareTo(b.Tensor.Ordinal));
            return _results;
        }
    }

    /// <summary>The time since its first piece was begun.</summary>
    public TimeSpan Elapsed => _begun == 0 ? TimeSpan.Zero : Stopwatch.GetElapsedTime(_begun);

    /// <summary>The outputs of one of its tensors.</summary>
    public ShardOutput OutputOf(WriteTensor tensor) =>
        new(writer, file, [.. tensor.Sink.Outputs.Select(o => file.Shard.Layout.OffsetOf(o.Name))]);

    /// <summary>Says that a piece is begun.</summary>
    public void Begin()
    {
        if (Volatile.Read(ref _begun) == 0)
        {
            Interlocked.CompareExchange(ref _begun, Stopwatch.GetTimestamp(), 0);
        }
    }

    /// <summary>Takes the tensors that a clone has from the start; true if those are all.</summary>
    public bool BeginWithClone()
    {
        _results.AddRange(file.Shard.Tensors.Where(file.Has).Select(t => new TensorResult(t)));
        return IsWritten;
    }

    /// <summary>Takes the result of a tensor; true for the last one.</summary>
    public bool End(TensorResult result)
    {
        lock (_results)
        {
            _results.Add(result);
            return IsWritten;
        }
    }

    private bool IsWritten => _results.Count == file.Shard.Tensors.Length;
}
