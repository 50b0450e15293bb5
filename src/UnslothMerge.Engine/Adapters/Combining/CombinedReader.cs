using System.Numerics;
using UnslothMerge.Formats;
using UnslothMerge.IO;

namespace UnslothMerge.Adapters.Combining;

/// <summary>Applies a <see cref="CombinedTerm"/>: every adapter's delta of a tile in a plane of its own, thinned out, then all of them
/// combined.</summary>
internal sealed class CombinedReader : DeltaReader
{
    // A buffer begins with the number of its rows; then the terms' own buffers follow, each on a cache line.
    private const int Start = CacheLine.Size;

    private readonly CombinedTerm _term;
    private readonly float _factor;
    private readonly int _columns;
    private readonly float[] _weights;
    private readonly List<Part> _parts = [];
    private readonly MagnitudeCutoff[] _cutoffs = [];
    private readonly RandomMask[] _masks = [];

    public CombinedReader(CombinedTerm term, DeltaContext context)
    {
        _term = term;
        _factor = (float)context.Factor;
        _columns = context.View.Columns;
        _weights = [.. term.Deltas.Select(d => (float)d.Weight)];
        try
        {
            for (var i = 0; i < term.Deltas.Length; i++)
            {
                var inner = new InnerContext(context, term.FactorOf(term.Deltas[i]));
                _parts.AddRange(term.Deltas[i].Terms.Select(t => new Part(i, t, t.Open(inner))));
            }

            _cutoffs = term.DropsSmallest ? FindCutoffs(context) : [];
            _masks = term.DropsAtRandom ? [.. term.Deltas.Select(term.MaskOf)] : [];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The length of the buffer for so many rows.</summary>
    public static long BytesOf(IEnumerable<DeltaTerm> terms, int rows) => Start + terms.Sum(t => CacheLine.Align(t.BytesOf(rows)));

    public override void Read(long row, int rows, Span<byte> buffer)
    {
        MemoryMarshal.Write(buffer, rows);
        var at = Start;
        foreach (var part in _parts)
        {
            var bytes = (int)part.Term.BytesOf(rows);
            if (part.Term.Changes(row, rows))
            {
                part.Reader.Read(row, rows, buffer.Slice(at, bytes));
            }

            at += (int)CacheLine.Align(bytes);
        }
    }

    public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
    {
        var count = tile.Delta.Length;
        var rented = ArrayPool<float>.Shared.Rent(count * _term.Deltas.Length);
        var planes = rented.AsSpan(0, count * _term.Deltas.Length);
        Fill(buffer, row, tile, planes);
        for (var i = 0; i < _term.Deltas.Length; i++)
        {
            ThinOut(i, tile, planes.Slice(i * count, count));
        }

        Combine(planes, tile.Delta);
        ArrayPool<float>.Shared.Return(rented);
    }

    public override void Dispose()
    {
        foreach (var part in _parts)
        {
            part.Reader.Dispose();
        }

        base.Dispose();
    }

    // Every adapter's delta of the tile, one plane after the other.
    private void Fill(ReadOnlySpan<byte> buffer, long row, Tile tile, Span<float> planes)
    {
        planes.Clear();
        var count = tile.Delta.Length;
        var rows = MemoryMarshal.Read<int>(buffer);
        var at = Start;
        foreach (var part in _parts)
        {
            var bytes = (int)part.Term.BytesOf(rows);
            if (part.Term.Changes(row, rows))
            {
                part.Reader.Apply(
                    buffer.Slice(at, bytes), row,
                    new Tile(tile.Weight, planes.Slice(part.Delta * count, count), tile.Row, tile.Rows, tile.Column, tile.Columns));
            }

            at += (int)CacheLine.Align(bytes);
        }
    }

    private void ThinOut(int delta, Tile tile, Span<float> plane)
    {
        for (var i = 0; i < tile.Rows; i++)
        {
            var index = ((tile.Row + i) * _columns) + tile.Column;
            var run = plane.Slice(i * tile.Columns, tile.Columns);
            if (_term.DropsSmallest)
            {
                _cutoffs[delta].Apply(index, run);
            }
            else if (_term.DropsAtRandom)
            {
                _masks[delta].Apply(index, run);
            }
        }
    }

    // Element by element in the order of the adapters, fp32 in every step: the same result however the tensor is cut and whatever the
    // vectors' width.
    private void Combine(ReadOnlySpan<float> planes, Span<float> sum)
    {
        var elects = _term.Type.ElectsSigns();
        var averages = _term.Type.Averages();
        var (one, none) = (Vector<float>.One, Vector<float>.Zero);
        var sums = MemoryMarshal.Cast<float, Vector<float>>(sum);
        for (var i = 0; i < sums.Length; i++)
        {
            var (total, plus, minus, plusWeight, minusWeight) = (none, none, none, none, none);
            for (var (at, delta) = (i * Vector<float>.Count, 0); at < planes.Length; at += sum.Length, delta++)
            {
                var value = new Vector<float>(planes[at..]);
                var weight = new Vector<float>(_weights[delta]);
                total += value;
                plus += Vector.Max(value, none);
                minus += Vector.Min(value, none);
                plusWeight += Vector.ConditionalSelect(Vector.GreaterThan(value, none), weight, none);
                minusWeight += Vector.ConditionalSelect(Vector.LessThan(value, none), weight, none);
            }

            // NaN and infinities are left in, so that they are found when the tensor is written.
            var isPlus = Vector.GreaterThanOrEqual(total, none);
            var divisor = Vector.ConditionalSelect(isPlus, plusWeight, minusWeight);
            divisor = averages ? Vector.ConditionalSelect(Vector.Equals(divisor, none), one, divisor) : one;
            var elected = Vector.ConditionalSelect(isPlus, plus, minus) / divisor;
            sums[i] += _factor * (elects ? Vector.ConditionalSelect(Vector.IsFinite(total), elected, total) : total);
        }

        for (var i = sums.Length * Vector<float>.Count; i < sum.Length; i++)
        {
            var (total, plus, minus, plusWeight, minusWeight) = (0f, 0f, 0f, 0f, 0f);
            for (var (at, delta) = (i, 0); at < planes.Length; at += sum.Length, delta++)
            {
                var value = planes[at];
                total += value;
                plus += MathF.Max(value, 0);
                minus += MathF.Min(value, 0);
                plusWeight += value > 0 ? _weights[delta] : 0;
                minusWeight += value < 0 ? _weights[delta] : 0;
            }

            var divisor = total >= 0 ? plusWeight : minusWeight;
            var elected = (total >= 0 ? plus : minus) / (averages && divisor != 0 ? divisor : 1);
            sum[i] += _factor * (!elects || !float.IsFinite(total) ? total : elected);
        }
    }

    private MagnitudeCutoff[] FindCutoffs(DeltaContext context)
    {
        var keep = (long)(_term.Density * context.View.Count);
        var searches = _term.Deltas.Select(_ => new LargestMagnitudes(keep)).ToList();
        while (searches.Exists(s => !s.IsDone))
        {
            context.Scan(tile => Show(tile, searches));
            searches.ForEach(s => s.EndPass());
        }

        return [.. searches.Select(s => s.Cutoff)];
    }

    private void Show(Tile tile, List<LargestMagnitudes> searches)
    {
        var count = tile.Delta.Length;
        var bytes = (int)_term.BytesOf(tile.Rows);
        var buffer = ArrayPool<byte>.Shared.Rent(bytes);
        var planes = ArrayPool<float>.Shared.Rent(count * searches.Count);
        Read(tile.Row, tile.Rows, buffer.AsSpan(0, bytes));
        Fill(buffer, tile.Row, tile, planes.AsSpan(0, count * searches.Count));
        for (var i = 0; i < searches.Count; i++)
        {
            searches[i].Add(planes.AsSpan(i * count, count));
        }

        ArrayPool<byte>.Shared.Return(buffer);
        ArrayPool<float>.Shared.Return(planes);
    }

    private sealed record Part(int Delta, DeltaTerm Term, DeltaReader Reader);

    /// <summary>What a term of one adapter finds: the same target, but a factor of its own.</summary>
    private sealed class InnerContext(DeltaContext outer, double factor) : DeltaContext(outer.Files, outer.View, factor)
    {
        public override int Workers => outer.Workers;

        public override void Scan(TileVisitor visitor) => outer.Scan(visitor);
    }
}
