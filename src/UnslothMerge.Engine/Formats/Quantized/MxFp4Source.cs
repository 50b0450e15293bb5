using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>gpt-oss's experts: <c>X_blocks</c> U8 [experts, out, groups, 16] and <c>X_scales</c> U8 [experts, out, groups], which make the
/// parameter X [experts, in, out] with in = 32 · groups: the blocks are stored the other way round. A piece is a panel, a strip of every
/// output of an expert. Source: openai/gpt-oss; OCP microscaling formats 1.0.</summary>
internal sealed class MxFp4Source(StoredTensor blocks, StoredTensor scales, TensorType type) : TensorSource
{
    private const int GroupValues = 32;
    private const int GroupBytes = 16;

    /// <summary>The values of a panel, at most: with many outputs it takes that many for a strip to be worth a system call.</summary>
    private const int PanelValues = 6 * 1024 * 1024;

    private readonly int _outputs = (int)blocks.Shape[1];
    private readonly int _groups = (int)blocks.Shape[2];
    private readonly int _panelGroups = PanelGroups(blocks);

    public override IReadOnlyList<long> Shape { get; } = [blocks.Shape[0], blocks.Shape[2] * GroupValues, blocks.Shape[1]];

    public override TensorType Type => type;

    public override string Format => "MXFP4";

    public override IReadOnlyList<StoredTensor> Inputs => [blocks, scales];

    public override int RowQuantum => _panelGroups * GroupValues;

    private int BlockBytes => _outputs * _panelGroups * GroupBytes;

    private int PanelBytes => BlockBytes + (_outputs * _panelGroups);

    public override long BytesOf(MatrixView view, int rows) => (long)((rows + RowQuantum - 1) / RowQuantum) * PanelBytes;

    public override TensorSink WrittenBack(string name)
    {
        var rows = blocks.Shape[0] * _outputs;
        return new TransposedSink(
            new GridSink(
                new GridWeight(
                    Format, Output(blocks), Output(scales), CodeBook.E2M1, CodeLayout.Packed(4, _groups * GroupBytes),
                    new ScaleBlocks(rows, 1, GroupValues, _groups))
                {
                    ReadBaseScales = files => new BaseScales(files.ReadAll(scales), null, null, 1),
                },
                new MatrixView(rows, RowQuantum)),
            RowQuantum);

        TensorSpec Output(StoredTensor stored) => CopySink.Output(name, blocks, stored);
    }

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(this, blocks, scales, files);

    private sealed class Reader(MxFp4Source source, StoredTensor blocks, StoredTensor scales, InputFiles files) : TensorReader
    {
        public override void Read(long row, int rows, Span<byte> stored)
        {
            var (panel, groups) = (row / source.RowQuantum, source._panelGroups);
            for (var done = 0; done < rows; done += source.RowQuantum, panel++)
            {
                var (expert, group) = (panel * groups / source._groups, panel * groups % source._groups);
                StridedReads.Read(
                    files, blocks, source._groups * GroupBytes, expert * source._outputs, source._outputs, group * GroupBytes,
                    groups * GroupBytes, stored, groups * GroupBytes);
                StridedReads.Read(
                    files, scales, source._groups, expert * source._outputs, source._outputs, group, groups, stored[source.BlockBytes..],
                    groups);
                stored = stored[source.PanelBytes..];
            }
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            for (var done = 0; done < tile.Rows;)
            {
                var (panel, first) = Math.DivRem((int)(tile.Row - row) + done, source.RowQuantum);
                var count = Math.Min(tile.Rows - done, source.RowQuantum - first);
                var bytes = stored.Slice(panel * source.PanelBytes, source.PanelBytes);
                TransposedCodes.DecodeMxFp4(
                    bytes[..source.BlockBytes],
                    bytes[source.BlockBytes..],
                    source._panelGroups,
                    new TransposedCodes.Part(first, count, tile.Column, tile.Columns),
                    tile.Weight[(done * tile.Columns)..]);
                done += count;
            }
        }
    }

    // A whole expert, or an equal part of one.
    private static int PanelGroups(StoredTensor blocks)
    {
        var groups = (int)blocks.Shape[2];
        var parts = 1;
        while (parts < groups && (groups % parts != 0 || groups / parts * GroupValues * blocks.Shape[1] > PanelValues))
        {
            parts++;
        }

        return groups / parts;
    }
}
