using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Formats.Quantized;

/// <summary>
/// gpt-oss's experts: <c>X_blocks</c> U8 [experts, out, groups, 16] and <c>X_scales</c> U8 [experts, out, groups], which make the parameter X
/// [experts, in, out] with in = 32 · groups: the blocks are stored the other way round. An expert is read as a whole.
/// Source: openai/gpt-oss; OCP microscaling formats 1.0.
/// </summary>
internal sealed class MxFp4Source(StoredTensor blocks, StoredTensor scales, TensorType type) : TensorSource
{
    private const int GroupValues = 32;
    private const int GroupBytes = 16;

    private readonly int _outputs = (int)blocks.Shape[1];
    private readonly int _groups = (int)blocks.Shape[2];

    /// <inheritdoc/>
    public override IReadOnlyList<long> Shape { get; } = [blocks.Shape[0], blocks.Shape[2] * GroupValues, blocks.Shape[1]];

    /// <inheritdoc/>
    public override TensorType Type => type;

    /// <inheritdoc/>
    public override string Format => "MXFP4";

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> Inputs => [blocks, scales];

    /// <inheritdoc/>
    public override int RowQuantum => _groups * GroupValues;

    private int ExpertBlockBytes => _outputs * _groups * GroupBytes;

    private int ExpertScaleBytes => _outputs * _groups;

    /// <inheritdoc/>
    public override long BytesOf(MatrixView view, int rows) => (long)((rows + RowQuantum - 1) / RowQuantum) * (ExpertBlockBytes + ExpertScaleBytes);

    /// <inheritdoc/>
    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(this, blocks, scales, files);

    private sealed class Reader(MxFp4Source source, StoredTensor blocks, StoredTensor scales, InputFiles files) : TensorReader
    {
        public override void Read(long row, int rows, Span<byte> stored)
        {
            var (first, experts) = (row / source.RowQuantum, rows / source.RowQuantum);
            var bytes = experts * source.ExpertBlockBytes;
            files.Read(blocks, first * source.ExpertBlockBytes, stored[..bytes]);
            files.Read(scales, first * source.ExpertScaleBytes, stored.Slice(bytes, experts * source.ExpertScaleBytes));
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var table = Codes.E2M1;
            var allBlocks = rows / source.RowQuantum * source.ExpertBlockBytes;
            for (var i = 0; i < tile.Rows; i++)
            {
                var within = tile.Row - row + i;
                var (expert, input) = ((int)(within / source.RowQuantum), (int)(within % source.RowQuantum));
                var (group, place) = (input / GroupValues, input % GroupValues);
                var values = tile.WeightRow(i);
                for (var c = 0; c < values.Length; c++)
                {
                    var block = (((expert * source._outputs) + tile.Column + c) * source._groups) + group;
                    var code = (stored[(block * GroupBytes) + (place >> 1)] >> ((place & 1) << 2)) & 15;
                    values[c] = table[code] * Codes.PowerOfTwo(stored[allBlocks + block]);
                }
            }
        }
    }
}
