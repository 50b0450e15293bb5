using System.Runtime.InteropServices;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Formats.Quantized;

/// <summary>
/// How GPTQ and AWQ pack a weight [out, in]: transposed, as words of <see cref="Bits"/>-bit codes.
/// </summary>
/// <param name="Format">What a person would call the format.</param>
/// <param name="Bits">The bits of a code.</param>
/// <param name="Codes">GPTQ: I32 [in · bits / 32, out], packed along in. AWQ: I32 [in, out · bits / 32], packed along out.</param>
/// <param name="Zeros">I32 [groups, out · bits / 32], packed along out.</param>
/// <param name="Scales">[groups, out].</param>
/// <param name="GroupIndex">I32 [in]: the group of each input; null where they are in order.</param>
/// <param name="GroupSize">The inputs of a group.</param>
internal sealed record PanelWeight(string Format, int Bits, StoredTensor Codes, StoredTensor Zeros, StoredTensor Scales, StoredTensor? GroupIndex, int GroupSize)
{
    /// <summary>True if the codes are packed along in (GPTQ), false if along out (AWQ).</summary>
    public required bool PackedAlongInputs { get; init; }

    /// <summary>Added to each stored zero point, within its bits: GPTQ's first format stores them minus one.</summary>
    public int ZeroOffset { get; init; }

    /// <summary>The place of each output's code within a word; empty if in order. AWQ interleaves them.</summary>
    public IReadOnlyList<int> Order { get; init; } = [];

    /// <summary>Stored tensors that only matter to the quantized model.</summary>
    public IReadOnlyList<StoredTensor> Ignored { get; init; } = [];

    /// <summary>The number of outputs.</summary>
    public long Outputs => Scales.Shape[1];

    /// <summary>The number of inputs.</summary>
    public long Inputs => PackedAlongInputs ? Codes.Shape[0] * 32 / Bits : Codes.Shape[0];
}

/// <summary>
/// A weight of GPTQ or AWQ: W[o, i] = scales[g(i), o] · (code[i, o] − zero[g(i), o]), exactly, in fp32. Stored as [in, out], so that rows of the
/// weight are columns of the file: a piece is a panel, a strip of every stored row.
/// Sources: GPTQ (arXiv 2210.17323), AutoGPTQ's and GPTQModel's checkpoint formats; AWQ (arXiv 2306.00978), AutoAWQ's GEMM layout.
/// </summary>
internal sealed class PanelSource(PanelWeight weight, TensorType type) : TensorSource
{
    /// <summary>Outputs in a panel: enough that a strip is worth a system call.</summary>
    private const int PanelRows = 256;

    /// <inheritdoc/>
    public override IReadOnlyList<long> Shape { get; } = [weight.Outputs, weight.Inputs];

    /// <inheritdoc/>
    public override TensorType Type => type;

    /// <inheritdoc/>
    public override string Format => weight.Format;

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> Inputs =>
        [.. new[] { weight.Codes, weight.Zeros, weight.Scales, weight.GroupIndex }.OfType<StoredTensor>().Concat(weight.Ignored)];

    /// <inheritdoc/>
    public override int RowQuantum => PanelRows;

    /// <inheritdoc/>
    public override long BytesOf(MatrixView view, int rows) => new Panel(weight, rows).Bytes;

    /// <inheritdoc/>
    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(weight, files);

    /// <summary>Where the parts of a panel lie in the buffer.</summary>
    private readonly record struct Panel(PanelWeight Weight, int Rows)
    {
        // Strips begin and end at whole words: PanelRows is a multiple of 32, so only the last one may be short.
        private int PackedRowBytes => ((Rows * Weight.Bits) + 31) / 32 * sizeof(int);

        public int CodeStripBytes => Weight.PackedAlongInputs ? Rows * sizeof(int) : PackedRowBytes;

        public int ZeroStripBytes => PackedRowBytes;

        public int Groups => (int)Weight.Scales.Shape[0];

        public int ScaleStripBytes => Rows * Weight.Scales.Type.Bits() / 8;

        public int Zeros => (int)Weight.Codes.Shape[0] * CodeStripBytes;

        public int Scales => (int)CacheLine.Align(Zeros + (Groups * ZeroStripBytes));

        // The scales are decoded to fp32 in place, from the end of their part.
        public int StoredScales => Scales + (Groups * Rows * sizeof(float));

        public long Bytes => StoredScales + ((long)Groups * ScaleStripBytes);
    }

    private sealed class Reader(PanelWeight weight, InputFiles files) : TensorReader
    {
        private readonly int[]? _groups = weight.GroupIndex is null ? null : files.ReadAll<int>(weight.GroupIndex);

        public override void Read(long row, int rows, Span<byte> stored)
        {
            var panel = new Panel(weight, rows);
            var packedStart = row * weight.Bits / 8;
            var codeStart = weight.PackedAlongInputs ? row * sizeof(int) : packedStart;
            StridedReads.Read(files, weight.Codes, weight.Codes.Shape[1] * sizeof(int), 0, (int)weight.Codes.Shape[0], codeStart, panel.CodeStripBytes, stored);
            StridedReads.Read(files, weight.Zeros, weight.Zeros.Shape[1] * sizeof(int), 0, panel.Groups, packedStart, panel.ZeroStripBytes, stored[panel.Zeros..]);
            var width = weight.Scales.Type.Bits() / 8;
            var scales = stored.Slice(panel.StoredScales, panel.Groups * panel.ScaleStripBytes);
            StridedReads.Read(files, weight.Scales, weight.Outputs * width, 0, panel.Groups, row * width, panel.ScaleStripBytes, scales);
            PlainFormat.Decoder(weight.Scales.Type)(scales, MemoryMarshal.Cast<byte, float>(stored[panel.Scales..])[..(panel.Groups * rows)]);
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var panel = new Panel(weight, rows);
            var scales = MemoryMarshal.Cast<byte, float>(stored.Slice(panel.Scales, panel.Groups * rows * sizeof(float)));
            var mask = (1 << weight.Bits) - 1;
            for (var i = 0; i < tile.Rows; i++)
            {
                var output = (int)(tile.Row - row) + i;
                var values = tile.WeightRow(i);
                var (group, zero, scale) = (-1, 0, 0f);
                for (var c = 0; c < values.Length; c++)
                {
                    var input = tile.Column + c;
                    var itsGroup = _groups is null ? input / weight.GroupSize : _groups[input];
                    if (itsGroup != group)
                    {
                        group = itsGroup;
                        zero = (Along(stored.Slice(panel.Zeros + (group * panel.ZeroStripBytes), panel.ZeroStripBytes), output) + weight.ZeroOffset) & mask;
                        scale = scales[(group * rows) + output];
                    }

                    var code = weight.PackedAlongInputs
                        ? Down(stored, panel.CodeStripBytes, input, output)
                        : Along(stored.Slice(input * panel.CodeStripBytes, panel.CodeStripBytes), output);
                    values[c] = scale * (code - zero);
                }
            }
        }

        // A code in words packed along out.
        private int Along(ReadOnlySpan<byte> strip, int output)
        {
            if (weight.Order.Count == 0)
            {
                return Codes.Field(strip, (long)output * weight.Bits, weight.Bits);
            }

            var perWord = weight.Order.Count;
            return Codes.Field(strip, ((long)(output / perWord) * 32) + (weight.Order[output % perWord] * weight.Bits), weight.Bits);
        }

        // A code in words packed along in: bit i·bits of the column of words that belongs to the output; it may cross into the next word.
        private int Down(ReadOnlySpan<byte> strips, int stripBytes, int input, int output)
        {
            var bit = (long)input * weight.Bits;
            var (word, shift) = ((int)(bit / 32), (int)(bit % 32));
            var low = Word(strips, stripBytes, word, output) >> shift;
            var have = 32 - shift;
            return (int)(have >= weight.Bits ? low : low | (Word(strips, stripBytes, word + 1, output) << have)) & ((1 << weight.Bits) - 1);
        }

        private static uint Word(ReadOnlySpan<byte> strips, int stripBytes, int word, int output) =>
            MemoryMarshal.Read<uint>(strips[((word * stripBytes) + (output * sizeof(int)))..]);
    }
}
