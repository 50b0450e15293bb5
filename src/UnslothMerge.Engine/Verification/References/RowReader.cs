namespace UnslothMerge.Verification.References;

/// <summary>Reads rows of a tensor in float64: plain numbers by the BCL's conversions, quantized ones by the format's decoder.</summary>
internal sealed class RowReader(InputFiles files, TensorSource source, MatrixView view) : IDisposable
{
    private readonly TensorReader? _decoder = source.Verbatim is null ? source.Open(files, view) : null;

    /// <summary>Reads rows, given in ascending order.</summary>
    public void Read(IReadOnlyList<long> rows, Span<double> values)
    {
        for (var i = 0; i < rows.Count;)
        {
            var count = 1;
            while (i + count < rows.Count && rows[i + count] == rows[i] + count)
            {
                count++;
            }

            Read(rows[i], count, values.Slice(i * view.Columns, count * view.Columns));
            i += count;
        }
    }

    public void Dispose() => _decoder?.Dispose();

    private void Read(long first, int count, Span<double> values)
    {
        if (source.Verbatim is { } stored)
        {
            var bytes = new byte[values.Length * (long)stored.Type.Bits() / 8];
            files.Read(stored, first * view.Columns * stored.Type.Bits() / 8, bytes);
            PlainValues.Decode(stored.Type, bytes, values);
            return;
        }

        // Blocks of a quantized tensor may span rows: whole blocks are read.
        var quantum = source.RowQuantum;
        var begin = first / quantum * quantum;
        var rows = (int)(Math.Min((first + count + quantum - 1) / quantum * quantum, view.Rows) - begin);
        var encoded = new byte[source.BytesOf(view, rows)];
        var decoded = new float[rows * view.Columns];
        _decoder!.Read(begin, rows, encoded);
        _decoder.Decode(encoded, begin, rows, new Tile(decoded, default, begin, rows, 0, view.Columns));
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = decoded[((first - begin) * view.Columns) + i];
        }
    }
}
