namespace UnslothMerge.Adapters;

/// <summary>A term inside another one: the plane that it adds to, and what it finds when it is opened.</summary>
internal sealed record InnerTerm(DeltaTerm Term, int Plane, DeltaContext Context);

/// <summary>Terms that are parts of one term: they share its buffer, and add to planes of their own.</summary>
internal sealed class TermReaders : IDisposable
{
    // A buffer begins with the number of its rows; then the terms' own buffers follow, each on a cache line.
    private const int Start = CacheLine.Size;

    private readonly List<(InnerTerm Inner, DeltaReader Reader)> _readers = [];

    /// <summary>Opens the terms.</summary>
    public TermReaders(IEnumerable<InnerTerm> terms)
    {
        try
        {
            foreach (var inner in terms)
            {
                _readers.Add((inner, inner.Term.Open(inner.Context)));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The length of the buffer for so many rows.</summary>
    public static long BytesOf(IEnumerable<DeltaTerm> terms, int rows) => Start + terms.Sum(t => CacheLine.Align(t.BytesOf(rows)));

    /// <summary>Reads what the terms need for some rows.</summary>
    public void Read(long row, int rows, Span<byte> buffer)
    {
        MemoryMarshal.Write(buffer, rows);
        var at = Start;
        foreach (var ((term, _, _), reader) in _readers)
        {
            var bytes = (int)term.BytesOf(rows);
            if (term.Changes(row, rows))
            {
                reader.Read(row, rows, buffer.Slice(at, bytes));
            }

            at += (int)CacheLine.Align(bytes);
        }
    }

    /// <summary>Computes the deltas of a tile: planes as long as it, one after the other.</summary>
    public void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile, Span<float> planes)
    {
        planes.Clear();
        var (rows, at, count) = (MemoryMarshal.Read<int>(buffer), Start, tile.Delta.Length);
        foreach (var ((term, plane, _), reader) in _readers)
        {
            var bytes = (int)term.BytesOf(rows);
            if (term.Changes(row, rows))
            {
                reader.Apply(
                    buffer.Slice(at, bytes), row,
                    new Tile(tile.Weight, planes.Slice(plane * count, count), tile.Row, tile.Rows, tile.Column, tile.Columns));
            }

            at += (int)CacheLine.Align(bytes);
        }
    }

    public void Dispose() => _readers.ForEach(r => r.Reader.Dispose());
}
