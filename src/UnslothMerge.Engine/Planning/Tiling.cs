using UnslothMerge.Adapters;

namespace UnslothMerge.Planning;

/// <summary>How a tensor is cut. A piece is what one worker reads, changes and writes at a time: whole rows, about
/// <see cref="PieceBytes"/>. Within a piece, tiles of a few rows and columns stay in the L1 cache. Pieces begin at multiples of
/// <see cref="RowQuantum"/> rows. Fused: deltas are added to the weights as they are stored, and tiles have no weight plane.</summary>
internal sealed record Tiling(int Rows, int TileRows, int TileColumns, int RowQuantum, bool IsFused, PieceMemory Memory)
{
    /// <summary>The bytes of a piece, about. Larger pieces leave the cache between reading and writing; smaller ones cost system
    /// calls.</summary>
    public const int PieceBytes = 1024 * 1024;

    /// <summary>The least bytes of a piece that are worth trying where memory is scarce.</summary>
    public const int MinPieceBytes = 16 * 1024;

    // What is measured of a piece in fp32, and what is too much for one that cannot be divided.
    private const int MeasuredElements = 1 << 17;
    private const int MaxMeasuredElements = 1 << 20;

    // Two fp32 planes of 16 × 256 values take 32 KiB, which with the delta's factors still stays near the core. With a delta plane alone,
    // fewer than 64 rows would call the kernels too often. Where deltas need whole rows, tiles live in L2.
    private const int UsualColumns = 256;
    private const int UsualRows = 16;
    private const int FusedRows = 64;
    private const int WholeRowValues = 16 * 1024;

    /// <summary>That of a tensor whose bytes are copied as they are: in no pieces of its own.</summary>
    public static Tiling None { get; } = new(1, 1, 1, 1, false, new PieceMemory(0, 0, 0, 0, 0, 0));

    /// <summary>The first rows of a piece, in which can be measured what quantizing leaves of the deltas; zero for none.</summary>
    public int MeasuredRows { get; init; }

    /// <summary>A plane of a tile in fp32, in bytes.</summary>
    public long PlaneBytes => PlaneOf(TileRows, TileColumns);

    /// <summary>Cuts a tensor.</summary>
    public static Tiling For(LogicalTensor tensor, TensorSink sink, int pieceBytes = PieceBytes)
    {
        var deltaQuantum = tensor.Terms.Aggregate(1L, (quantum, term) => LeastCommonMultiple(quantum, term.Term.RowQuantum));
        var quantum = LeastCommonMultiple(deltaQuantum, LeastCommonMultiple(tensor.Source.RowQuantum, sink.RowQuantum));
        var rows = PieceRows(tensor, sink, pieceBytes, quantum);
        var isFused = tensor.Source.PlainType is not null && sink.RoundedType is not null && !tensor.Terms.Any(t => t.Term.ReadsWeights);
        var (tileRows, tileColumns) = TileOf(tensor, rows, deltaQuantum, isFused);
        var memory = PieceMemory.Of(tensor, sink, rows, (isFused ? 1 : 2) * PlaneOf(tileRows, tileColumns));
        var measured = sink.IsQuantized && tensor.Action == TensorAction.Merge ? MeasuredOf(rows, tensor.View.Columns, quantum) : 0;
        return new Tiling(rows, tileRows, tileColumns, (int)Math.Min(quantum, rows), isFused, memory with
        {
            Measured = 3 * PlaneOf(measured, tensor.View.Columns),
        })
        {
            MeasuredRows = measured,
        };
    }

    private static int MeasuredOf(int rows, int columns, long quantum)
    {
        var measured = Math.Min(rows, Math.Max(quantum, MeasuredElements / Math.Max(columns, 1) / quantum * quantum));
        return measured * columns <= MaxMeasuredElements ? (int)measured : 0;
    }

    private static long PlaneOf(int rows, int columns) => (long)rows * columns * sizeof(float);

    private static int PieceRows(LogicalTensor tensor, TensorSink sink, int pieceBytes, long quantum)
    {
        var rowBytes = Math.Max(1, Math.Max(tensor.Source.BytesOf(tensor.View, 1), sink.BytesOf(tensor.View, 1)));
        var rows = Math.Max(quantum, pieceBytes / rowBytes / quantum * quantum);
        return (int)Math.Min(Math.Max(tensor.View.Rows, 1), rows);
    }

    private static (int Rows, int Columns) TileOf(LogicalTensor tensor, int pieceRows, long quantum, bool isFused)
    {
        var wholeRows = tensor.Terms.Any(t => t.Term.NeedsWholeRows);
        var columns = wholeRows ? tensor.View.Columns : Math.Min(tensor.View.Columns, UsualColumns);
        var rows = wholeRows ? WholeRowValues / Math.Max(columns, 1) : isFused ? FusedRows : UsualRows;
        return ((int)Math.Min(pieceRows, Math.Max(quantum, rows / quantum * quantum)), columns);
    }

    private static long LeastCommonMultiple(long a, long b)
    {
        var (x, y) = (a, b);
        while (y != 0)
        {
            (x, y) = (y, x % y);
        }

        return a / x * b;
    }
}

/// <summary>The bytes that a piece needs: its rows as stored in the base and in the output, what the deltas read for it, the fp32 planes of
/// a tile, what the deltas of some of the rows hold for it, and what it takes to show the whole tensor to a delta that asks for
/// it.</summary>
internal sealed record PieceMemory(long Source, long Sink, long Terms, long Planes, long Partial, long Scan)
{
    /// <summary>What measuring the rest of the deltas takes.</summary>
    public long Measured { get; init; }

    /// <summary>A worker's buffers.</summary>
    public long Worker => Source + Sink + Terms + Planes + Measured;

    public static PieceMemory Of(LogicalTensor tensor, TensorSink sink, int rows, long planes)
    {
        var view = tensor.View;
        var source = tensor.Source.BytesOf(view, rows);
        var scans = tensor.Terms.Any(t => t.Term.Reach != DeltaReach.RowLocal);
        return new PieceMemory(
            CacheLine.Align(source),
            CacheLine.Align(sink.BytesOf(view, rows)),
            tensor.Terms.Where(t => t.Term.Rows is null).Sum(t => BufferOf(t.Term)) + MostInPiece(tensor, rows, BufferOf),
            planes,
            MostInPiece(tensor, rows, t => t.ResidentBytes),
            scans ? source + (2L * rows * view.Columns * sizeof(float)) + tensor.Terms.Sum(t => BufferOf(t.Term)) : 0);

        long BufferOf(DeltaTerm term) => CacheLine.Align(term.BytesOf(rows));
    }

    // Of many experts, only those whose rows are in a piece are held at a time, wherever it begins.
    private static long MostInPiece(LogicalTensor tensor, int rows, Func<DeltaTerm, long> bytesOf)
    {
        var changes = new List<(long Row, long Bytes)>();
        foreach (var term in tensor.Terms.Select(t => t.Term))
        {
            if (term.Rows is { } range)
            {
                changes.Add((range.First - rows + 1, bytesOf(term)));
                changes.Add((range.First + range.Count, -bytesOf(term)));
            }
        }

        // At one row, ends come before beginnings.
        changes.Sort();
        var (now, most) = (0L, 0L);
        foreach (var (_, bytes) in changes)
        {
            now += bytes;
            most = Math.Max(most, now);
        }

        return most;
    }
}
