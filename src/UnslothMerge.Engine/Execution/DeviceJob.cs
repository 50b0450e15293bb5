using UnslothMerge.Devices;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>A tensor that a device merges, in batches of rows. A batch that does not fit into its memory is halved.</summary>
internal sealed class DeviceJob : TensorJob
{
    // Below this size, fewer workers are faster than smaller batches: each worker has memory of its own.
    private const long LeastShared = DevicePlan.UsualElements / 8;

    private readonly WriteTensor _write;
    private readonly DeviceBatches _batches;
    private readonly int _rows;
    private readonly Lock _gate = new();
    private readonly Func<Opened> _open;
    private Opened? _opened;

    public DeviceJob(WriteTensor write, OpenShard shard, InputFiles files, IMergeDevice device, DeviceBatches batches, int rows)
        : base(write, shard, (write.Tensor.View.Rows + rows - 1) / rows, DeviceSupport.ResidentBytes(write))
    {
        _write = write;
        _batches = batches;
        _rows = rows;
        _open = () => new Opened(device.Open(write, files), write.Sink.Open(files, write.Tensor.View, shard.OutputOf(write)));
    }

    /// <summary>Processes one piece and returns the bytes written. If no other worker holds memory of the device (<paramref
    /// name="alone"/>), batches may shrink to the smallest. After a <see cref="DeviceMemoryException"/> the piece may be run
    /// again.</summary>
    public long Run(int piece, IDeviceWorker worker, bool alone)
    {
        var statistics = default(TileStatistics);
        var row = (long)piece * _rows;
        var rows = (int)Math.Min(_rows, Tensor.View.Rows - row);
        for (var done = 0; done < rows;)
        {
            done += Merge(row + done, rows - done, worker, alone, ref statistics);
        }

        Record(piece, statistics);
        Done();
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    protected override IReadOnlyList<byte[]> Finish() => _opened!.Writer.Finish();

    protected override void Release() => _opened?.Dispose();

    // Tried again after an error: other tensors may have released memory.
    private Opened Open()
    {
        lock (_gate)
        {
            return _opened ??= _open();
        }
    }

    private int Merge(long row, int rows, IDeviceWorker worker, bool alone, ref TileStatistics statistics)
    {
        var (columns, quantum) = (Tensor.View.Columns, _write.Tiling.RowQuantum);
        while (true)
        {
            var batch = _batches.Fit(rows, columns, quantum);
            var mine = default(TileStatistics);
            try
            {
                var (tensor, writer) = Open();
                var encoded = worker.Merge(tensor, row, batch, ref mine);
                RequireFinite(mine);
                writer.Write(row, batch, encoded, ref mine);
                statistics.Add(mine);
                return batch;
            }
            catch (DeviceMemoryException e)
            {
                if (batch <= quantum || (!alone && (long)batch * columns <= LeastShared))
                {
                    throw new DeviceMemoryException($"it does not hold {Amount.Text(batch, "row")} of '{Tensor.Name}' ({e.Message})", e);
                }

                _batches.Halve(batch, columns);
            }
        }
    }

    private sealed record Opened(IDeviceTensor Tensor, TensorWriter Writer) : IDisposable
    {
        public void Dispose()
        {
            Tensor.Dispose();
            Writer.Dispose();
        }
    }
}

/// <summary>The largest batch that fits: a size that failed once is halved for all later batches.</summary>
internal sealed class DeviceBatches
{
    private readonly Lock _gate = new();
    private long _elements = long.MaxValue;

    public int Fit(int rows, int columns, int quantum) =>
        (int)Math.Min(rows, Math.Max(quantum, Interlocked.Read(ref _elements) / Math.Max(1, columns) / quantum * quantum));

    public void Halve(int rows, int columns)
    {
        lock (_gate)
        {
            _elements = Math.Min(_elements, (long)rows * columns / 2);
        }
    }
}
