using System.Runtime.InteropServices;
using UnslothMerge.Execution.Simd;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>
/// Δ = scaling · left · right, with left [rows, rank] and right [rank, columns]. For a Linear layer left is B and right is A.
/// Each element of the product is summed over the rank in fp32 with fused multiply-adds, then added to the other deltas.
/// Source: LoRA (arXiv 2106.09685).
/// </summary>
/// <param name="kind">The kind of adapter.</param>
/// <param name="left">[rows, rank].</param>
/// <param name="right">[rank, columns].</param>
/// <param name="scaling">alpha / r, or alpha / √r.</param>
public sealed class LowRankTerm(string kind, FactorMatrix left, FactorMatrix right, double scaling) : DeltaTerm
{
    private readonly int _rank = checked((int)right.Rows);
    private readonly int _columns = checked((int)right.Columns);

    /// <inheritdoc/>
    public override string Kind => kind;

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> Inputs => [right.Tensor, left.Tensor];

    /// <inheritdoc/>
    public override int? Rank => _rank;

    /// <inheritdoc/>
    public override double Scaling => scaling;

    /// <inheritdoc/>
    public override long ResidentBytes => LoraPanels.Length(_rank, _columns) * sizeof(float);

    /// <inheritdoc/>
    public override long BytesOf(int rows) => (rows * (long)_rank * sizeof(float)) + left.ScratchBytes(rows);

    /// <inheritdoc/>
    public override DeltaReader Open(DeltaContext context) => new Reader(context.Files, left, right, scaling * context.Factor);

    private sealed class Reader : DeltaReader
    {
        // Rows of the right factor that are converted at a time: enough to make one read worth while.
        private const int PackedRows = 8;

        private readonly InputFiles _files;
        private readonly FactorMatrix _left;
        private readonly double _scale;
        private readonly int _rank;
        private readonly NativeBuffer _panels;

        public Reader(InputFiles files, FactorMatrix left, FactorMatrix right, double scale)
        {
            _files = files;
            _left = left;
            _scale = scale;
            _rank = (int)right.Rows;
            _panels = new NativeBuffer(LoraPanels.Length(_rank, (int)right.Columns) * sizeof(float));
            try
            {
                Pack(right);
            }
            catch
            {
                _panels.Dispose();
                throw;
            }
        }

        public override void Read(long row, int rows, Span<byte> buffer)
        {
            var bytes = rows * _rank * sizeof(float);
            _left.ReadRows(_files, row, rows, _scale, MemoryMarshal.Cast<byte, float>(buffer[..bytes]), buffer[bytes..]);
        }

        public override void Apply(ReadOnlySpan<byte> buffer, long row, Formats.Tile tile)
        {
            var left = MemoryMarshal.Cast<byte, float>(buffer).Slice((int)(tile.Row - row) * _rank, tile.Rows * _rank);
            LoraKernel.Accumulate(left, _panels.Floats[(int)LoraPanels.Offset(_rank, tile.Column)..], tile.Delta, tile.Rows, tile.Columns, _rank, tile.Columns);
        }

        protected override void Dispose(bool disposing)
        {
            _panels.Dispose();
            base.Dispose(disposing);
        }

        private void Pack(FactorMatrix right)
        {
            var columns = (int)right.Columns;
            using var rows = new NativeBuffer((long)PackedRows * columns * sizeof(float));
            using var scratch = new NativeBuffer(right.ScratchBytes(PackedRows));
            for (var first = 0; first < _rank; first += PackedRows)
            {
                var count = Math.Min(PackedRows, _rank - first);
                right.ReadRows(_files, first, count, 1, rows.Floats, scratch.Bytes);
                for (var k = 0; k < count; k++)
                {
                    PackRow(rows.Floats.Slice(k * columns, columns), first + k);
                }
            }
        }

        // See LoraPanels: panels of Width columns, each [rank, Width], the last one padded with zeros.
        private void PackRow(ReadOnlySpan<float> row, int k)
        {
            for (var column = 0; column < row.Length; column += LoraPanels.Width)
            {
                var used = Math.Min(LoraPanels.Width, row.Length - column);
                var packed = _panels.Floats.Slice((int)LoraPanels.Offset(_rank, column) + (k * LoraPanels.Width), LoraPanels.Width);
                row.Slice(column, used).CopyTo(packed);
                packed[used..].Clear();
            }
        }
    }
}
