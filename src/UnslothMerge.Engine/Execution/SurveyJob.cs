namespace UnslothMerge.Execution;

/// <summary>A pass over a tensor that finds the range of its merged values, before it and those that it belongs to are written.</summary>
internal sealed class SurveyJob : CoreJob
{
    private readonly WriteTensor _write;
    private readonly SharedSurvey _survey;
    private readonly Lazy<OpenedTensor> _opened;

    public SurveyJob(WriteTensor write, OpenShard shard, InputFiles files, SharedSurvey survey, int workers)
        : base(write, shard, OpenedTensor.PiecesOf(write), TensorNeeds.ResidentOf(write, workers))
    {
        (_write, _survey) = (write, survey);
        _opened = new Lazy<OpenedTensor>(() => new OpenedTensor(write, files, new NoOutput(), workers));
    }

    public override long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var (row, rows) = OpenedTensor.RowsOf(_write, piece);
        var encoded = _opened.Value.Merge(row, rows, buffers, out var statistics);
        RequireFinite(statistics);
        _opened.Value.Writer.Survey(row, rows, encoded);
        Done();
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    protected override IReadOnlyList<byte[]> Finish()
    {
        _survey.Add(_opened.Value.Writer.Surveyed);
        return [];
    }

    protected override void Release()
    {
        if (_opened.IsValueCreated)
        {
            _opened.Value.Dispose();
        }
    }

    // The tensor may be written into another shard, or have been.
    private sealed class NoOutput : IOutput
    {
        public void Write(int output, long start, ReadOnlySpan<byte> bytes) =>
            throw new InvalidOperationException("A survey writes nothing.");
    }
}

/// <summary>What the surveys of some tensors find, for the writers of all of them.</summary>
internal sealed class SharedSurvey(int tensors) : IDisposable
{
    private readonly CountdownEvent _missing = new(tensors);
    private readonly Dictionary<string, SurveyedRange> _found = new(StringComparer.Ordinal);

    /// <summary>Adds what was found of one tensor.</summary>
    public void Add(IReadOnlyDictionary<string, SurveyedRange> found)
    {
        lock (_found)
        {
            foreach (var (name, range) in found)
            {
                _found[name] = _found.TryGetValue(name, out var other) ? other.With(range) : range;
            }
        }

        _missing.Signal();
    }

    /// <summary>Waits until all tensors are surveyed.</summary>
    public IReadOnlyDictionary<string, SurveyedRange> Wait(CancellationToken stop)
    {
        _missing.Wait(stop);
        return _found;
    }

    public void Dispose() => _missing.Dispose();
}
