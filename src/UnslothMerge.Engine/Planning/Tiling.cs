using System.Numerics;
using UnslothMerge.Adapters;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;
using UnslothMerge.Simd;

namespace UnslothMerge.Planning;

/// <summary>
/// How a tensor is cut. A piece is what one worker reads, changes and writes at a time: whole rows, about <see cref="PieceBytes"/>, so that it
/// stays in the L2 cache between the system's two copies. Within a piece, tiles of a few rows and columns stay in L1.
/// </summary>
/// <param name="Rows">The rows of a piece.</param>
/// <param name="TileRows">The rows of a tile.</param>
/// <param name="TileColumns">The columns of a tile.</param>
/// <param name="SourceBytes">The buffer for a piece as it is stored in the base.</param>
/// <param name="SinkBytes">The buffer for a piece as it is stored in the output.</param>
/// <param name="TermBytes">The buffer for what the deltas need for a piece.</param>
/// <param name="RowQuantum">Pieces begin at multiples of this many rows.</param>
public sealed record Tiling(int Rows, int TileRows, int TileColumns, long SourceBytes, long SinkBytes, long TermBytes, int RowQuantum)
{
    /// <summary>The bytes of a piece, about. Larger pieces fall out of the cache between reading and writing; smaller ones cost system calls, and the disk more writes.</summary>
    public const int PieceBytes = 1024 * 1024;

    /// <summary>The least bytes of a piece that are worth trying where memory is scarce.</summary>
    public const int MinPieceBytes = 16 * 1024;

    /// <summary>The columns of a tile: two fp32 planes of 16 × 256 values take 32 KiB, which with the delta's factors still stays near the core.</summary>
    private const int UsualTileColumns = 256;

    /// <summary>The values of a tile where deltas need whole rows: such tiles live in L2.</summary>
    private const int WholeRowValues = 16 * 1024;

    private const int UsualTileRows = 16;

    /// <summary>The rows of a tile where the delta is its only plane. Fewer would call the kernels too often.</summary>
    private const int DirectTileRows = 64;

    /// <summary>True if deltas are added to the weights as they are stored, without decoding them into a plane first.</summary>
    public bool IsDirect { get; private init; }

    /// <summary>True if a piece is merged where it was read to.</summary>
    public bool IsInPlace => IsDirect && SinkBytes == 0;

    /// <summary>
    /// Where pieces end so that they are whole blocks of the output's file: at multiples of this many bytes, a power of two. Zero where rows are not
    /// simply written one after the other, or are too long; pieces then begin at multiples of <see cref="Rows"/>.
    /// </summary>
    public int BlockBytes { get; private init; }

    /// <summary>The room before a piece of the output for the end of a row that began in the block before.</summary>
    public int RoomBytes { get; private init; }

    /// <summary>Where a worker's buffer for the output begins.</summary>
    public long SinkStart => IsInPlace ? 0 : SourceBytes;

    /// <summary>A plane of a tile in fp32, in bytes.</summary>
    public long PlaneBytes => (long)TileRows * TileColumns * sizeof(float);

    /// <summary>All buffers that a worker needs for a piece.</summary>
    public long WorkerBytes => SourceBytes + SinkBytes + TermBytes + ((IsDirect ? 1 : 2) * PlaneBytes);

    /// <summary>What the deltas of some of the rows hold for a piece, all together.</summary>
    public long PartialBytes { get; private init; }

    /// <summary>What showing the whole tensor to a delta takes, where one asks for that: a piece of it, in fp32 as well.</summary>
    public long ScanBytes { get; private init; }

    /// <summary>Cuts a tensor.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="sink">How it is stored.</param>
    /// <param name="pieceBytes">The bytes of a piece, about.</param>
    public static Tiling For(LogicalTensor tensor, TensorSink sink, int pieceBytes = PieceBytes)
    {
        var view = tensor.View;
        var termQuantum = 1L;
        foreach (var term in tensor.Terms)
        {
            termQuantum = LeastCommonMultiple(termQuantum, term.Term.RowQuantum);
        }

        var quantum = LeastCommonMultiple(termQuantum, LeastCommonMultiple(tensor.Source.RowQuantum, sink.RowQuantum));
        var sinkRow = sink.BytesOf(view, 1);
        var rowBytes = Math.Max(1, Math.Max(tensor.Source.BytesOf(view, 1), sinkRow));
        var block = sink.PlainType is null ? 0 : (int)BitOperations.RoundUpToPowerOf2((uint)((pieceBytes * sinkRow / rowBytes) + 1)) / 2;
        block = sinkRow * quantum <= block / 2 ? block : 0;
        var piece = block > 0 ? ((block / sinkRow / quantum) + 1) * quantum : Math.Max(quantum, pieceBytes / rowBytes / quantum * quantum);
        var rows = (int)Math.Min(Math.Max(view.Rows, 1), piece);

        var isDirect = tensor.Source.PlainType is not null && sink.RoundedType is not null && !tensor.Terms.Any(t => t.Term.ReadsWeights);
        var wholeRows = tensor.Terms.Any(t => t.Term.NeedsWholeRows);
        var tileColumns = wholeRows ? view.Columns : Math.Min(view.Columns, UsualTileColumns);
        var usualRows = wholeRows ? Math.Clamp(WholeRowValues / Math.Max(tileColumns, 1), 1, rows) : Math.Min(isDirect ? DirectTileRows : UsualTileRows, rows);
        var tileRows = (int)Math.Min(rows, Math.Max(termQuantum, usualRows / termQuantum * termQuantum));
        var room = block > 0 ? CacheLine.Align(sinkRow * quantum) : 0;
        var isInPlace = isDirect && sink.PlainType?.Bits() == tensor.Source.PlainType?.Bits();
        return new Tiling(
            rows,
            tileRows,
            tileColumns,
            CacheLine.Align(tensor.Source.BytesOf(view, rows)) + (isInPlace ? room : 0),
            isInPlace ? 0 : room + CacheLine.Align(sink.BytesOf(view, rows)),
            tensor.Terms.Where(t => t.Term.Rows is null).Sum(t => BufferOf(t.Term)) + MostInPiece(tensor, rows, BufferOf),
            (int)Math.Min(quantum, rows))
        {
            IsDirect = isDirect,
            BlockBytes = block,
            RoomBytes = (int)room,
            PartialBytes = MostInPiece(tensor, rows, t => t.ResidentBytes),
            ScanBytes = tensor.Terms.All(t => t.Term.Reach == DeltaReach.RowLocal) ? 0
                : tensor.Source.BytesOf(view, rows) + (2L * rows * view.Columns * sizeof(float)) + tensor.Terms.Sum(t => BufferOf(t.Term)),
        };

        long BufferOf(DeltaTerm term) => CacheLine.Align(term.BytesOf(rows));
    }

    // Of many experts, only those whose rows a piece has meet in it, wherever it begins.
    private static long MostInPiece(LogicalTensor tensor, int rows, Func<DeltaTerm, long> bytesOf)
    {
        if (!tensor.Terms.Any(t => t.Term.Rows is not null))
        {
            return 0;
        }

        var changes = new List<(long Row, long Bytes)>();
        foreach (var term in tensor.Terms.Select(t => t.Term))
        {
            if (term.Rows is { } range)
            {
                changes.Add((range.First - rows + 1, bytesOf(term)));
                changes.Add((range.First + range.Count, -bytesOf(term)));
            }
        }

        // Where one ends and another begins, the end comes first: less is more.
        changes.Sort();
        var (now, most) = (0L, 0L);
        foreach (var (_, bytes) in changes)
        {
            now += bytes;
            most = Math.Max(most, now);
        }

        return most;
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
