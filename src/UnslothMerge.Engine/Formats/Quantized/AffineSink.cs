using UnslothMerge.Simd;

namespace UnslothMerge.Formats.Quantized;

/// <summary>A weight of MLX's affine codes: U32 words of codes, and scales and biases [rows, groups].</summary>
internal sealed record AffineWeight(string Format, StoredTensor Codes, StoredTensor Scales, StoredTensor Biases, int Bits, int Group);

/// <summary>Writes a weight as MLX's affine codes. A group keeps the base's scale and bias while its values fit them; others get those of
/// mlx 0.32's <c>affine_quantize</c>: one end of the range, the larger one, is exact, and so is zero.</summary>
internal sealed class AffineSink(string name, AffineWeight weight) : TensorSink
{
    private const float LeastScale = 1e-7f;

    public override IReadOnlyList<TensorSpec> Outputs { get; } =
        [.. new[] { weight.Codes, weight.Scales, weight.Biases }.Select(t => CopySink.Output(name, weight.Codes, t))];

    public override string Format => weight.Format;

    public override bool IsQuantized => true;

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * (sizeof(float) + 1);

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) => new Writer(weight, files, view, output);

    private sealed class Writer(AffineWeight weight, InputFiles files, MatrixView view, IOutput output) : TensorWriter
    {
        private readonly CodeWriter _codes = CodeLayout.Packed(weight.Bits, weight.Codes.Shape[1] * sizeof(uint)).Open(view, output);
        private readonly int _groups = (int)weight.Scales.Shape[1];
        private readonly int _highest = (1 << weight.Bits) - 1;

        public override void Encode(Tile tile, long row, Span<byte> encoded, ref TileStatistics statistics) =>
            GridSink.Combine(tile, row, view, encoded, ref statistics);

        public override void Write(long row, int rows, Span<byte> encoded, ref TileStatistics statistics)
        {
            var values = MemoryMarshal.Cast<byte, float>(encoded)[..(rows * view.Columns)];
            var codes = encoded.Slice(values.Length * sizeof(float), values.Length);
            var (scales, biases) = (Base(weight.Scales, row, rows), Base(weight.Biases, row, rows));
            for (var g = 0; g < rows * _groups; g++)
            {
                var (start, length) = ExtentOf(g);
                (scales[g], biases[g]) = Quantize(
                    values.Slice(start, length), scales[g], biases[g], codes.Slice(start, length), ref statistics);
            }

            _codes.Write(row, rows, codes);
            Put(1, weight.Scales, row, scales);
            Put(2, weight.Biases, row, biases);
        }

        public override void RoundTrip(long row, int rows, Span<float> values)
        {
            var codes = new byte[weight.Group];
            var (scales, biases) = (Base(weight.Scales, row, rows), Base(weight.Biases, row, rows));
            TileStatistics none = default;
            for (var g = 0; g < rows * _groups; g++)
            {
                var (start, length) = ExtentOf(g);
                var group = values.Slice(start, length);
                var (scale, bias) = Quantize(group, scales[g], biases[g], codes.AsSpan(0, length), ref none);
                for (var i = 0; i < length; i++)
                {
                    group[i] = (codes[i] * scale) + bias;
                }
            }
        }

        public override void Dispose()
        {
            _codes.Dispose();
            base.Dispose();
        }

        // The columns of a row's groups follow each other; the last one may be short.
        private (int Start, int Length) ExtentOf(int group) =>
            ((group / _groups * view.Columns) + (group % _groups * weight.Group),
                Math.Min(weight.Group, view.Columns - (group % _groups * weight.Group)));

        private (float Scale, float Bias) Quantize(
            ReadOnlySpan<float> values, float scale, float bias, Span<byte> codes, ref TileStatistics statistics)
        {
            if (!Fits(values, scale, bias))
            {
                (scale, bias) = Choose(values);
            }

            for (var i = 0; i < values.Length; i++)
            {
                codes[i] = (byte)Math.Clamp(MathF.Round((values[i] - bias) / scale), 0, _highest);
                var error = ((codes[i] * scale) + bias) - values[i];
                statistics.ValueSquares += values[i] * values[i];
                statistics.ErrorSquares += error * error;
                statistics.NonFinite |= !float.IsFinite(error);
            }

            return (scale, bias);
        }

        // Half of the codes are in use, so that no group stays coarser than it must be; or the values are codes already.
        private bool Fits(ReadOnlySpan<float> values, float scale, float bias)
        {
            if (scale == 0 || !float.IsFinite(scale))
            {
                return false;
            }

            var (low, high, exact) = (float.MaxValue, float.MinValue, true);
            foreach (var value in values)
            {
                var code = MathF.Round((value - bias) / scale);
                (low, high) = (MathF.Min(low, code), MathF.Max(high, code));
                exact &= (code * scale) + bias == value;
            }

            return low >= 0 && high <= _highest && (exact || (high - low) * 2 >= _highest);
        }

        private (float Scale, float Bias) Choose(ReadOnlySpan<float> values)
        {
            var (low, high) = (TensorPrimitives.Min(values), TensorPrimitives.Max(values));
            var isLow = MathF.Abs(low) > MathF.Abs(high);
            var scale = MathF.Max((high - low) / _highest, LeastScale) * (isLow ? 1 : -1);
            var edge = isLow ? low : high;
            var steps = MathF.Round(edge / scale);
            return (Rounded(weight.Scales.Type, steps == 0 ? scale : edge / steps), Rounded(weight.Biases.Type, steps == 0 ? 0 : edge));
        }

        private static float Rounded(TensorType type, float value)
        {
            Span<byte> stored = stackalloc byte[sizeof(float)];
            PlainFormat.Round(type, [value], stored[..(type.Bits() / 8)]);
            PlainFormat.Decoder(type)(stored[..(type.Bits() / 8)], new Span<float>(ref value));
            return value;
        }

        private float[] Base(StoredTensor grid, long row, int rows)
        {
            var stored = new byte[rows * _groups * grid.Type.Bits() / 8];
            files.Read(grid, row * _groups * grid.Type.Bits() / 8, stored);
            var values = new float[rows * _groups];
            PlainFormat.Decoder(grid.Type)(stored, values);
            return values;
        }

        private void Put(int index, StoredTensor grid, long row, float[] values)
        {
            var stored = new byte[values.Length * grid.Type.Bits() / 8];
            PlainFormat.Round(grid.Type, values, stored);
            output.Write(index, row * _groups * grid.Type.Bits() / 8, stored);
        }
    }
}
