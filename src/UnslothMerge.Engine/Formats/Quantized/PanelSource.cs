using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>How GPTQ and AWQ pack a weight [out, in]: transposed, as words of <see cref="Bits"/>-bit codes. GPTQ: I32 [in · bits / 32,
/// out], packed along in. AWQ: I32 [in, out · bits / 32], packed along out. Both: zeros I32 [groups, out · bits / 32], packed along out;
/// scales [groups, out]; the group of each input I32 [in], null where they are in order.</summary>
internal sealed record PanelWeight(
    string Format, int Bits, StoredTensor Codes, StoredTensor Zeros, StoredTensor Scales, StoredTensor? GroupIndex, int GroupSize)
{
    /// <summary>Where AWQ puts each of the eight outputs of a word.</summary>
    private static ReadOnlySpan<byte> AwqPlaces => [0, 4, 1, 5, 2, 6, 3, 7];

    /// <summary>True if the codes are packed along in (GPTQ), false if along out, with four bits and in an order of its own
    /// (AWQ).</summary>
    public required bool PackedAlongInputs { get; init; }

    /// <summary>Added to each stored zero point, within its bits: GPTQ's first format stores them minus one.</summary>
    public int ZeroOffset { get; init; }

    public long Outputs => Scales.Shape[1];

    /// <summary>The first bit of an output's code, or of its zero point, in a row of words that are packed along out.</summary>
    public int BitOf(int output) => (PackedAlongInputs ? output : (output & ~7) + AwqPlaces[output & 7]) * Bits;

    /// <summary>An output's zero point in a row of them.</summary>
    public int ZeroOf(ReadOnlySpan<byte> row, int output) =>
        (Quantized.Codes.Field(row, BitOf(output), Bits) + ZeroOffset) & ((1 << Bits) - 1);

    public long Inputs => PackedAlongInputs ? Codes.Shape[0] * 32 / Bits : Codes.Shape[0];
}

/// <summary>A weight of GPTQ or AWQ: W[o, i] = scales[g(i), o] · (code[i, o] − zero[g(i), o]), exactly, in fp32. Stored as [in, out], so
/// that rows of the weight are columns of the file: a piece is a panel, a strip of every stored row. Sources: GPTQ (arXiv 2210.17323),
/// AutoGPTQ's and GPTQModel's checkpoint formats; AWQ (arXiv 2306.00978), AutoAWQ's GEMM layout.</summary>
internal sealed class PanelSource(PanelWeight weight, TensorType type) : TensorSource
{
    // Outputs in a panel. The more there are, the fewer times lines are read again for the next panel, or the longer its strips are.
    private readonly int _panelRows = weight.PackedAlongInputs ? 256 : 512;

    public override IReadOnlyList<long> Shape { get; } = [weight.Outputs, weight.Inputs];

    public override TensorType Type => type;

    public override string Format => weight.Format;

    public override IReadOnlyList<StoredTensor> Inputs =>
        [.. new[] { weight.Codes, weight.Zeros, weight.Scales, weight.GroupIndex }.OfType<StoredTensor>()];

    public override int RowQuantum => _panelRows;

    public override long BytesOf(MatrixView view, int rows) => new Panel(weight, rows).Bytes;

    public override TensorSink WrittenBack(string name)
    {
        var groups = (int)weight.Scales.Shape[0];
        return new GridSink(
            new GridWeight(
                weight.Format, Output(weight.Codes), Output(weight.Scales), CodeBook.Integers(0, (1 << weight.Bits) - 1),
                new PanelLayout(weight), new ScaleBlocks(weight.Outputs, 1, weight.GroupSize, groups))
            {
                ReadBaseScales = ReadBaseScales,
                Companions = [.. new[] { weight.Zeros, weight.GroupIndex }.OfType<StoredTensor>().Select(t => (t, Output(t)))],
            },
            MatrixView.Of(Shape));

        TensorSpec Output(StoredTensor stored) => CopySink.Output(name, weight.Codes, stored);
    }

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(weight, files);

    private BaseScales ReadBaseScales(InputFiles files)
    {
        var (groups, outputs) = ((int)weight.Scales.Shape[0], (int)weight.Outputs);
        var words = files.ReadAll(weight.Zeros);
        var zeros = new float[groups * outputs];
        for (var g = 0; g < groups; g++)
        {
            var row = words.AsSpan(g * words.Length / groups, words.Length / groups);
            for (var o = 0; o < outputs; o++)
            {
                zeros[(o * groups) + g] = weight.ZeroOf(row, o);
            }
        }

        return new BaseScales(
            files.ReadAll(weight.Scales), zeros, weight.GroupIndex is null ? null : files.ReadAll<int>(weight.GroupIndex), 1);
    }

    /// <summary>Where the parts of a panel lie in the buffer.</summary>
    private readonly record struct Panel(PanelWeight Weight, int Rows)
    {
        /// <summary>The rows that strips have room for: kernels load sixteen at a time, and words hold up to 32.</summary>
        public int Stride => (Rows + 31) / 32 * 32;

        // Only the last panel may be short; its strips end at whole words.
        public int PackedStripBytes => ((Rows * Weight.Bits) + 31) / 32 * sizeof(int);

        public int CodeStripBytes => Weight.PackedAlongInputs ? Rows * sizeof(int) : PackedStripBytes;

        public int CodePitch => Weight.PackedAlongInputs ? Stride * sizeof(int) : Stride * Weight.Bits / 8;

        public int ScaleStripBytes => Rows * Weight.Scales.Type.Bits() / 8;

        public int CodeLines => (int)Weight.Codes.Shape[0];

        public int Groups => (int)Weight.Scales.Shape[0];

        public int GroupFloats => Groups * Stride;

        public int Zeros => (int)CacheLine.Align((long)CodeLines * CodePitch);

        public int Scales => Zeros + (GroupFloats * sizeof(float));

        // Zero points and scales as they are stored, one after the other.
        public int Stored => Scales + (GroupFloats * sizeof(float));

        public long Bytes => Stored + ((long)Groups * Math.Max(PackedStripBytes, ScaleStripBytes));
    }

    private sealed class Reader(PanelWeight weight, InputFiles files) : TensorReader
    {
        private readonly int[] _groups = Groups(weight, files);

        public override void Read(long row, int rows, Span<byte> stored)
        {
            var panel = new Panel(weight, rows);
            var packedStart = row * weight.Bits / 8;
            var codeStart = weight.PackedAlongInputs ? row * sizeof(int) : packedStart;
            StridedReads.Read(
                files, weight.Codes, weight.Codes.Shape[1] * sizeof(int), 0, panel.CodeLines, codeStart, panel.CodeStripBytes, stored,
                panel.CodePitch);

            var strips = stored[panel.Stored..];
            StridedReads.Read(
                files, weight.Zeros, weight.Zeros.Shape[1] * sizeof(int), 0, panel.Groups, packedStart, panel.PackedStripBytes, strips,
                panel.PackedStripBytes);
            var zeros = MemoryMarshal.Cast<byte, float>(stored.Slice(panel.Zeros, panel.GroupFloats * sizeof(float)));
            for (var g = 0; g < panel.Groups; g++)
            {
                for (var o = 0; o < rows; o++)
                {
                    zeros[(g * panel.Stride) + o] = weight.ZeroOf(strips.Slice(g * panel.PackedStripBytes, panel.PackedStripBytes), o);
                }
            }

            var width = weight.Scales.Type.Bits() / 8;
            StridedReads.Read(
                files, weight.Scales, weight.Outputs * width, 0, panel.Groups, row * width, panel.ScaleStripBytes, strips,
                panel.ScaleStripBytes);
            var scales = MemoryMarshal.Cast<byte, float>(stored.Slice(panel.Scales, panel.GroupFloats * sizeof(float)));
            for (var g = 0; g < panel.Groups; g++)
            {
                PlainFormat.Decoder(weight.Scales.Type)(
                    strips.Slice(g * panel.ScaleStripBytes, panel.ScaleStripBytes), scales.Slice(g * panel.Stride, rows));
            }
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var panel = new Panel(weight, rows);
            var codes = stored[..(panel.CodeLines * panel.CodePitch)];
            var zeros = MemoryMarshal.Cast<byte, float>(stored.Slice(panel.Zeros, panel.GroupFloats * sizeof(float)));
            var scales = MemoryMarshal.Cast<byte, float>(stored.Slice(panel.Scales, panel.GroupFloats * sizeof(float)));
            var part = new TransposedCodes.Part((int)(tile.Row - row), tile.Rows, tile.Column, tile.Columns);
            TransposedCodes.DecodeWords(
                codes, weight.Bits, weight.PackedAlongInputs, _groups, zeros, scales, panel.Stride, part, tile.Weight);
        }

        private static int[] Groups(PanelWeight weight, InputFiles files)
        {
            var groups = weight.GroupIndex is null
                ? [.. Enumerable.Range(0, (int)weight.Inputs).Select(i => i / weight.GroupSize)]
                : files.ReadAll<int>(weight.GroupIndex);
            return groups.All(g => g >= 0 && g < weight.Scales.Shape[0])
                ? groups
                : throw QuantizedFormat.Damaged(
                    weight.Codes.Name, $"'{weight.GroupIndex!.Name}' names groups beyond the {weight.Scales.Shape[0]} that have scales");
        }
    }
}
