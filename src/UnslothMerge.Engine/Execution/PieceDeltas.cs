using UnslothMerge.Adapters;

namespace UnslothMerge.Execution;

/// <summary>The deltas that change some of a piece's rows, each with the data that it has read for them.</summary>
internal sealed class PieceDeltas : IPieceDeltas
{
    private readonly long _row;
    private readonly WorkerBuffers _buffers;
    private readonly List<(DeltaReader Delta, long Start, long Length)> _deltas = [];

    private PieceDeltas(long row, WorkerBuffers buffers) => (_row, _buffers) = (row, buffers);

    public bool IsEmpty => _deltas.Count == 0;

    /// <summary>Reads what a tensor's deltas need for a piece into a worker's memory, from <paramref name="start"/> on.</summary>
    public static PieceDeltas Read(
        ReadOnlySpan<DeltaReader> deltas, LogicalTensor tensor, long row, int rows, WorkerBuffers buffers, long start)
    {
        var piece = new PieceDeltas(row, buffers);
        for (var i = 0; i < deltas.Length; i++)
        {
            if (tensor.Terms[i].Term is var term && term.Changes(row, rows))
            {
                var length = term.BytesOf(rows);
                deltas[i].Read(row, rows, buffers.Take(start, length));
                piece._deltas.Add((deltas[i], start, length));
                start += CacheLine.Align(length);
            }
        }

        return piece;
    }

    public void AddTo(Tile tile)
    {
        for (var i = 0; i < _deltas.Count; i++)
        {
            var (delta, start, length) = _deltas[i];
            if (i == 0)
            {
                delta.Begin(_buffers.Take(start, length), _row, tile);
            }
            else
            {
                delta.Apply(_buffers.Take(start, length), _row, tile);
            }
        }
    }
}
