using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = scaling · left · right, with left [rows, rank] and right [rank, columns]. For a Linear layer left is B and right is A. Each
/// element of the product is summed over the rank in fp32 with fused multiply-adds, then added to the other deltas. Source: LoRA (arXiv
/// 2106.09685). The place is where the delta begins in the target, if it is not the whole of it: one expert of many, or one of two fused
/// matrices.</summary>
internal sealed class LowRankTerm(string kind, FactorMatrix left, FactorMatrix right, double scaling, MatrixPlace? place = null)
    : DeltaTerm(kind, [right.Tensor, left.Tensor])
{
    private readonly int _rank = checked((int)right.Rows);
    private readonly int _columns = checked((int)right.Columns);

    /// <summary>[rows, rank].</summary>
    public FactorMatrix Left => left;

    /// <summary>[rank, columns].</summary>
    public FactorMatrix Right => right;

    /// <summary>Where the delta begins in the target, if it is not the whole of it.</summary>
    public MatrixPlace? Place => place;

    public override IEnumerable<StoredTensor> SharedInputs => new[] { right, left }.Where(f => f.IsScattered).Select(f => f.Tensor);

    public override int? Rank => _rank;

    public override double Scaling => scaling;

    public override RowRange? Rows => place is { } p ? new RowRange(p.Row, left.Rows) : null;

    public override bool ReadsWeights => false;

    // Rows of the right factor that are converted at a time: enough to make one read worth while.
    private int PackedRows => Math.Min(8, _rank);

    /// <summary>The right factor in panels, and some of its rows while they are made.</summary>
    public override long ResidentBytes =>
        ((LoraPanels.Length(_rank, _columns + Margin(place)) + ((long)PackedRows * _columns)) * sizeof(float))
        + right.ScratchBytes(PackedRows);

    public override long BytesOf(int rows)
    {
        var mine = place is null ? rows : (int)Math.Min(rows, left.Rows);
        return (mine * (long)_rank * sizeof(float)) + left.ScratchBytes(mine);
    }

    public override DeltaReader Open(DeltaContext context) =>
        new Reader(context.Files, left, right, scaling * context.Factor, place, PackedRows);

    // Panels begin at the target's own multiples of their width, wherever the delta does.
    private static int Margin(MatrixPlace? place) => (place?.Column ?? 0) % LoraPanels.Width;

    private sealed class Reader : DeltaReader
    {
        private readonly InputFiles _files;
        private readonly FactorMatrix _left;
        private readonly FactorMatrix _right;
        private readonly double _scale;
        private readonly MatrixPlace _place;
        private readonly int _rank;
        private readonly int _margin;
        private readonly int _packedRows;
        private readonly bool _partial;
        private readonly Lock _gate = new();
        private NativeBuffer? _panels;
        private long _todo;

        public Reader(InputFiles files, FactorMatrix left, FactorMatrix right, double scale, MatrixPlace? place, int packedRows)
        {
            (_files, _left, _right, _scale, _packedRows) = (files, left, right, scale, packedRows);
            (_place, _partial) = (place ?? default, place is not null);
            _rank = (int)right.Rows;
            _margin = Margin(place);
            _todo = left.Rows * right.Columns;
        }

        public override void Read(long row, int rows, Span<byte> buffer)
        {
            lock (_gate)
            {
                _panels ??= Pack();
            }

            var (first, count) = Mine(row, rows);
            var bytes = count * _rank * sizeof(float);
            _left.ReadRows(_files, first - _place.Row, count, _scale, MemoryMarshal.Cast<byte, float>(buffer[..bytes]), buffer[bytes..]);
        }

        public override void Begin(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            if (_partial)
            {
                base.Begin(buffer, row, tile);
            }
            else
            {
                var left = MemoryMarshal.Cast<byte, float>(buffer)[((int)(tile.Row - row) * _rank)..];
                LoraKernel.Assign(
                    left, _panels!.Floats[(int)LoraPanels.Offset(_rank, tile.Column)..], tile.Delta, tile.Rows, tile.Columns, _rank,
                    tile.Columns);
            }
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            var (first, count) = Mine(tile.Row, tile.Rows);
            var begin = Math.Max(tile.Column, _place.Column - _margin);
            var end = (int)Math.Min(tile.Column + tile.Columns, _place.Column + _right.Columns);
            if (count <= 0 || begin >= end)
            {
                return;
            }

            var left = MemoryMarshal.Cast<byte, float>(buffer).Slice((int)(first - Math.Max(row, _place.Row)) * _rank, count * _rank);
            var panels = _panels!.Floats[(int)LoraPanels.Offset(_rank, begin - _place.Column + _margin)..];
            var delta = tile.Delta[(((int)(first - tile.Row) * tile.Columns) + begin - tile.Column)..];
            LoraKernel.Accumulate(left, panels, delta, count, end - begin, _rank, tile.Columns);
            if (_partial)
            {
                Done(count * (long)(end - Math.Max(begin, _place.Column)));
            }
        }

        public override void Dispose()
        {
            _panels?.Dispose();
            base.Dispose();
        }

        private (long First, int Count) Mine(long row, int rows)
        {
            var first = Math.Max(row, _place.Row);
            return (first, (int)(Math.Min(row + rows, _place.Row + _left.Rows) - first));
        }

        // A tensor of many experts has as many deltas: each gives its memory back as soon as its part of the tensor is done.
        private void Done(long values)
        {
            if (Interlocked.Add(ref _todo, -values) == 0)
            {
                lock (_gate)
                {
                    _panels?.Dispose();
                    _panels = null;
                    _todo = _left.Rows * _right.Columns;
                }
            }
        }

        private NativeBuffer Pack()
        {
            var columns = (int)_right.Columns;
            var panels = new NativeBuffer(LoraPanels.Length(_rank, columns + _margin) * sizeof(float));
            try
            {
                using var rows = new NativeBuffer((long)_packedRows * columns * sizeof(float));
                using var scratch = new NativeBuffer(_right.ScratchBytes(_packedRows));
                for (var first = 0; first < _rank; first += _packedRows)
                {
                    var count = Math.Min(_packedRows, _rank - first);
                    _right.ReadRows(_files, first, count, 1, rows.Floats, scratch.Bytes);
                    for (var k = 0; k < count; k++)
                    {
                        PackRow(panels, rows.Floats.Slice(k * columns, columns), first + k);
                    }
                }

                return panels;
            }
            catch
            {
                panels.Dispose();
                throw;
            }
        }

        // See LoraPanels: panels of Width columns, each [rank, Width], padded with zeros before the first column and after the last.
        private void PackRow(NativeBuffer panels, ReadOnlySpan<float> row, int k)
        {
            for (var column = -_margin; column < row.Length; column += LoraPanels.Width)
            {
                var packed = panels.Floats.Slice(
                    (int)LoraPanels.Offset(_rank, column + _margin) + (k * LoraPanels.Width), LoraPanels.Width);
                packed.Clear();
                var begin = Math.Max(column, 0);
                row[begin..Math.Min(column + LoraPanels.Width, row.Length)].CopyTo(packed[(begin - column)..]);
            }
        }
    }
}
