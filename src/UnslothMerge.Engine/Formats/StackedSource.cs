namespace UnslothMerge.Formats;

/// <summary>A stack of matrices, [count, rows of all parts, columns] or each turned, whose parts are stored one by one: a saved model's
/// experts, for comparisons. A piece is decoded when it is read.</summary>
internal sealed class StackedSource(IReadOnlyList<TensorSource> parts, int partsOfMatrix, bool isTransposed) : TensorSource
{
    /// <summary>The parts, matrix by matrix.</summary>
    public IReadOnlyList<TensorSource> Parts => parts;

    public bool IsTransposed => isTransposed;

    public int PartRows { get; } = checked((int)parts[0].Shape[0]);

    public int PartColumns { get; } = checked((int)parts[0].Shape[1]);

    /// <summary>The rows of one matrix, not turned.</summary>
    public int MatrixRows => PartRows * partsOfMatrix;

    public override IReadOnlyList<long> Shape => isTransposed
        ? [parts.Count / partsOfMatrix, PartColumns, MatrixRows] : [parts.Count / partsOfMatrix, MatrixRows, PartColumns];

    public override TensorType Type => parts[0].Type;

    public override string Format => parts[0].Format;

    public override IReadOnlyList<StoredTensor> Inputs => [.. parts.SelectMany(p => p.Inputs)];

    public override int RowQuantum => isTransposed ? PartColumns : parts.All(p => p.RowQuantum == 1) ? 1 : PartRows;

    public override long BytesOf(MatrixView view, int rows) => (long)rows * view.Columns * sizeof(float);

    public override TensorReader Open(InputFiles files, MatrixView view) => new Reader(this, files);

    private sealed class Reader(StackedSource source, InputFiles files) : TensorReader
    {
        private readonly MatrixView _part = new(source.PartRows, source.PartColumns);

        public override void Read(long row, int rows, Span<byte> stored)
        {
            var values = MemoryMarshal.Cast<byte, float>(stored);
            if (!source.IsTransposed)
            {
                ReadRows(row, rows, values);
                return;
            }

            var (inputs, outputs) = (source.PartColumns, source.MatrixRows);
            var matrix = new float[inputs * outputs];
            for (var done = 0; done < rows; done += inputs)
            {
                ReadRows((row + done) / inputs * outputs, outputs, matrix);
                for (var i = 0; i < matrix.Length; i++)
                {
                    values[(((i % inputs) + done) * outputs) + (i / inputs)] = matrix[i];
                }
            }
        }

        public override void Decode(ReadOnlySpan<byte> stored, long row, int rows, Tile tile)
        {
            var values = MemoryMarshal.Cast<byte, float>(stored);
            var columns = values.Length / rows;
            for (var i = 0; i < tile.Rows; i++)
            {
                values.Slice(((int)(tile.Row - row + i) * columns) + tile.Column, tile.Columns).CopyTo(tile.WeightRow(i));
            }
        }

        // Rows of the parts, counted through.
        private void ReadRows(long row, int rows, Span<float> values)
        {
            for (var done = 0; done < rows;)
            {
                var (part, first) = Math.DivRem(row + done, source.PartRows);
                var count = (int)Math.Min(rows - done, source.PartRows - first);
                var input = source.Parts[(int)part];
                using var reader = input.Open(files, _part);
                var bytes = new byte[input.BytesOf(_part, count)];
                reader.Read(first, count, bytes);
                reader.Decode(bytes, first, count, new Tile(
                    values.Slice(done * _part.Columns, count * _part.Columns), default, first, count, 0, _part.Columns));
                done += count;
            }
        }
    }
}
