using System.Collections.Immutable;
using Microsoft.Win32.SafeHandles;
using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;
using UnslothMerge.Simd;

namespace UnslothMerge.Execution;

/// <summary>One tensor that the cores work on. What all pieces share (the packed factors of its deltas) is loaded by the first worker.</summary>
internal sealed class TensorJob : TensorWork
{
    /// <summary>The bytes of a piece where nothing but copying is to be done.</summary>
    private const long CopyBytes = 4 * 1024 * 1024;

    /// <summary>What a tensor may leave to the garbage collector without being swept up after.</summary>
    private const long LitterBytes = 32 * 1024 * 1024;

    private readonly WriteTensor _write;
    private readonly InputFiles _files;
    private readonly Lazy<Opened> _opened;
    private readonly ImmutableArray<Part> _copies;
    private readonly int _surveys;
    private readonly CountdownEvent _unseen;

    public TensorJob(WriteTensor write, WriteShard shard, SafeFileHandle file, InputFiles files, int workers)
        : this(
            write,
            shard,
            file,
            files,
            workers,
            [.. (write.Verbatim ?? []).SelectMany(Part.Of)],
            write.Verbatim is null ? checked((int)((write.Tensor.View.Rows + write.Tiling.Rows - 1) / write.Tiling.Rows)) : 0)
    {
    }

    private TensorJob(WriteTensor write, WriteShard shard, SafeFileHandle file, InputFiles files, int workers, ImmutableArray<Part> copies, int pieces)
        : base(write, shard, file, copies.Length + (write.Sink.NeedsSurvey ? 2 * pieces : pieces), MemoryPlan.ResidentOf(write, workers))
    {
        _write = write;
        _files = files;
        _copies = copies;
        _surveys = write.Sink.NeedsSurvey ? pieces : 0;
        _unseen = new CountdownEvent(_surveys);
        _opened = new Lazy<Opened>(() => new Opened(write, files, Output));
    }

    /// <summary>Does one piece.</summary>
    /// <param name="piece">Its number.</param>
    /// <param name="buffers">The worker's memory.</param>
    /// <param name="stop">Ends the wait for other workers' pieces.</param>
    /// <returns>The bytes written.</returns>
    public long Run(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        var written = _write.Verbatim is not null ? Copy(_copies[piece], buffers) : piece < _surveys ? Survey(piece, buffers) : Write(piece - _surveys, buffers, stop);
        Done(_opened.IsValueCreated ? _opened.Value.Writer : null);
        return written;
    }

    protected override void GiveBack()
    {
        _unseen.Dispose();
        if (_opened.IsValueCreated)
        {
            _opened.Value.Dispose();
        }
    }

    private long Copy(Part part, WorkerBuffers buffers)
    {
        FileCopy.Copy(_files, part.Stored, part.Start, part.Length, Output, buffers.Copy, part.Output);
        return part.Length;
    }

    private long Survey(int piece, WorkerBuffers buffers)
    {
        var (row, rows) = RowsOf(piece);
        _opened.Value.Writer.Survey(row, rows, Merge(row, rows, buffers, out _));
        _unseen.Signal();
        return 0;
    }

    // Pieces are handed out in order: those that this one waits for are in the hands of other workers already.
    private long Write(int piece, WorkerBuffers buffers, CancellationToken stop)
    {
        _unseen.Wait(stop);
        var (row, rows) = RowsOf(piece);
        var encoded = Merge(row, rows, buffers, out var statistics);
        _opened.Value.Writer.Write(row, rows, encoded, ref statistics);
        Record(piece, statistics);
        return _write.Bytes / Tensor.View.Rows * rows;
    }

    private (long Row, int Rows) RowsOf(int piece)
    {
        var row = (long)piece * _write.Tiling.Rows;
        return (row, (int)Math.Min(_write.Tiling.Rows, Tensor.View.Rows - row));
    }

    private Span<byte> Merge(long row, int rows, WorkerBuffers buffers, out TileStatistics statistics)
    {
        var (reader, deltas, writer) = (_opened.Value.Reader, _opened.Value.Deltas, _opened.Value.Writer);
        var (view, tiling) = (Tensor.View, _write.Tiling);
        var source = buffers.Take(0, Tensor.Source.BytesOf(view, rows));
        var encoded = buffers.Take(tiling.SourceBytes, _write.Sink.BytesOf(view, rows));

        reader.Read(row, rows, source);
        var touching = Touching(deltas, row, rows);
        foreach (var (delta, start, length) in touching)
        {
            delta.Read(row, rows, buffers.Take(start, length));
        }

        var planes = tiling.SourceBytes + tiling.SinkBytes + tiling.TermBytes;
        statistics = default;
        for (var firstRow = 0; firstRow < rows; firstRow += tiling.TileRows)
        {
            for (var column = 0; column < view.Columns; column += tiling.TileColumns)
            {
                var (height, width) = (Math.Min(tiling.TileRows, rows - firstRow), Math.Min(tiling.TileColumns, view.Columns - column));
                var weight = buffers.TakeFloats(planes, height * width);
                var change = touching.Count == 0 ? default : buffers.TakeFloats(planes + tiling.PlaneBytes, height * width);
                var tile = new Tile(weight, change, row + firstRow, height, column, width);

                reader.Decode(source, row, rows, tile);
                change.Clear();
                foreach (var (delta, start, length) in touching)
                {
                    delta.Apply(buffers.Take(start, length), row, tile);
                }

                writer.Encode(tile, row, encoded, ref statistics);
            }
        }

        RequireFinite(statistics);
        return encoded;
    }

    // The deltas that change some of a piece's rows, and where each has what it needs for them.
    private List<(DeltaReader Delta, long Start, long Length)> Touching(DeltaReader[] deltas, long row, int rows)
    {
        var touching = new List<(DeltaReader, long, long)>(deltas.Length);
        var start = _write.Tiling.SourceBytes + _write.Tiling.SinkBytes;
        for (var i = 0; i < deltas.Length; i++)
        {
            var term = Tensor.Terms[i].Term;
            if (term.Touches(row, rows))
            {
                var length = term.BytesOf(rows);
                touching.Add((deltas[i], start, length));
                start += CacheLine.Align(length);
            }
        }

        return touching;
    }

    /// <summary>A part of a stored tensor that is copied.</summary>
    private readonly record struct Part(StoredTensor Stored, int Output, long Start, long Length)
    {
        public static IEnumerable<Part> Of(StoredTensor stored, int output)
        {
            for (var start = 0L; start < stored.Length; start += CopyBytes)
            {
                yield return new Part(stored, output, start, Math.Min(CopyBytes, stored.Length - start));
            }
        }
    }

    /// <summary>What the pieces of a tensor share.</summary>
    private sealed class Opened : IDisposable
    {
        public Opened(WriteTensor write, InputFiles files, ShardOutput output)
        {
            if (write.Tensor.Terms.Sum(t => t.Term.ResidentBytes) > LitterBytes && write.Tensor.Terms.Any(t => t.Term.Reach == DeltaReach.WholeTensor))
            {
                // What the tensor before it worked with must not be held beside what this one needs.
                GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
            }

            var opened = new List<IDisposable>();
            try
            {
                Reader = write.Tensor.Source.Open(files, write.Tensor.View);
                opened.Add(Reader);
                Deltas = new DeltaReader[write.Tensor.Terms.Length];
                for (var i = 0; i < Deltas.Length; i++)
                {
                    var (term, _, weight) = write.Tensor.Terms[i];
                    Deltas[i] = term.Open(new ScanningContext(files, write, weight, Reader, Deltas.AsMemory(0, i)));
                    opened.Add(Deltas[i]);
                }

                Writer = write.Sink.Open(files, write.Tensor.View, output);
            }
            catch
            {
                opened.ForEach(o => o.Dispose());
                throw;
            }
        }

        public TensorReader Reader { get; }

        public DeltaReader[] Deltas { get; }

        public TensorWriter Writer { get; }

        public void Dispose()
        {
            Reader.Dispose();
            Writer.Dispose();
            foreach (var delta in Deltas)
            {
                delta.Dispose();
            }
        }
    }
}
