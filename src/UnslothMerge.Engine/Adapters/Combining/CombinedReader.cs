using System.Numerics;

namespace UnslothMerge.Adapters.Combining;

/// <summary>Applies a <see cref="CombinedTerm"/>: every adapter's delta of a tile in a plane of its own, thinned out, then all of them
/// combined.</summary>
internal sealed class CombinedReader : DeltaReader
{
    private readonly CombinedTerm _term;
    private readonly float _factor;
    private readonly int _columns;
    private readonly float[] _weights;
    private readonly TermReaders _readers;
    private readonly MagnitudeCutoff[] _cutoffs = [];
    private readonly RandomMask[] _masks = [];

    public CombinedReader(CombinedTerm term, DeltaContext context)
    {
        _term = term;
        _factor = (float)context.Factor;
        _columns = context.View.Columns;
        _weights = [.. term.Deltas.Select(d => (float)d.Weight)];
        _readers = new TermReaders(term.Deltas.SelectMany((delta, i) =>
        {
            var inner = new InnerContext(context, term.FactorOf(delta));
            return delta.Terms.Select(t => new InnerTerm(t, i, inner));
        }));
        try
        {
            _cutoffs = term.DropsSmallest ? FindCutoffs(context) : [];
            _masks = term.DropsAtRandom ? [.. term.Deltas.Select(term.MaskOf)] : [];
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override void Read(long row, int rows, Span<byte> buffer) => _readers.Read(row, rows, buffer);

    public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
    {
        var count = tile.Delta.Length;
        var rented = ArrayPool<float>.Shared.Rent(count * _term.Deltas.Length);
        var planes = rented.AsSpan(0, count * _term.Deltas.Length);
        _readers.Apply(buffer, row, tile, planes);
        for (var i = 0; i < _term.Deltas.Length; i++)
        {
            ThinOut(i, tile, planes.Slice(i * count, count));
        }

        Combine(planes, tile.Delta);
        ArrayPool<float>.Shared.Return(rented);
    }

    public override void Dispose()
    {
        _readers.Dispose();
        base.Dispose();
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
        _readers.Apply(buffer, tile.Row, tile, planes.AsSpan(0, count * searches.Count));
        for (var i = 0; i < searches.Count; i++)
        {
            searches[i].Add(planes.AsSpan(i * count, count));
        }

        ArrayPool<byte>.Shared.Return(buffer);
        ArrayPool<float>.Shared.Return(planes);
    }

    /// <summary>What a term of one adapter finds: the same target, but a factor of its own.</summary>
    private sealed class InnerContext(DeltaContext outer, double factor) : DeltaContext(outer.Files, outer.View, factor)
    {
        public override int Workers => outer.Workers;

        public override void Scan(TileVisitor visitor) => outer.Scan(visitor);
    }
}
