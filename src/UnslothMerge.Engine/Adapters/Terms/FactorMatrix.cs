using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Some rows or columns of a stored matrix: <see cref="Start"/>, then every <see cref="Stride"/>-th.</summary>
internal readonly record struct Slice(long Start, long Count, long Stride = 1)
{
    /// <summary>Where the n-th lies.</summary>
    public long At(long n) => Start + (n * Stride);
}

/// <summary>One of the two factors of a low-rank delta, as a matrix [<see cref="Rows"/>, <see cref="Columns"/>] that may be a part of a
/// stored tensor, and may be stored the other way round. Rows are read as they are needed: the factors of a large vocabulary take hundreds
/// of megabytes. Dimensions after the second are flattened into it.</summary>
internal sealed record FactorMatrix(StoredTensor Tensor, bool Transposed)
{
    private readonly long _stored = RequireFloats(Tensor).Shape.Skip(1).Aggregate(1L, (a, b) => checked(a * b));

    /// <summary>The rows of the stored tensor that belong to the factor, one after the other; all, if not said.</summary>
    public Slice StoredRows { get; init; } = new(0, Tensor.Shape[0]);

    /// <summary>The columns of the stored tensor that belong to the factor; all, if not said.</summary>
    public Slice StoredColumns { get; init; } = new(0, Tensor.Shape.Skip(1).Aggregate(1L, (a, b) => a * b));

    /// <summary>The order of the rows, where the target has others: the factor's own row in each place, -1 for one of zeros.</summary>
    public int[]? Order { get; init; }

    /// <summary>The number of rows.</summary>
    public long Rows => Order?.Length ?? (Transposed ? StoredColumns.Count : StoredRows.Count);

    /// <summary>How many times each column stands side by side.</summary>
    public int Repeat { get; init; } = 1;

    /// <summary>The number of columns.</summary>
    public long Columns => Repeat * (Transposed ? StoredRows.Count : StoredColumns.Count);

    /// <summary>True if it has a part of every stored row only; the stored tensor is then best read once for all targets that share
    /// it.</summary>
    public bool IsScattered => StoredColumns.Count < _stored;

    private int Width => Tensor.Type.Bits() / 8;

    /// <summary>The bytes that <see cref="ReadRows"/> needs beside its result.</summary>
    public long ScratchBytes(int rows) =>
        IsScattered ? ((rows * Columns) + _stored) * Width : Transposed ? (long)rows * Width : rows * Columns * Width;

    /// <summary>The same matrix, rows for columns.</summary>
    public FactorMatrix Transpose() => this with { Transposed = !Transposed };

    /// <summary>Reads rows [rows, columns] as fp32, times a scale, multiplied in double and rounded once. The scratch has
    /// <see cref="ScratchBytes"/>.</summary>
    public void ReadRows(InputFiles files, long row, int rows, double scale, Span<float> values, Span<byte> scratch)
    {
        values = values[..(int)(rows * Columns)];
        if (Repeat > 1)
        {
            (this with { Repeat = 1 }).ReadRows(files, row, rows, scale, values, scratch);
            for (var i = values.Length - 1; i >= 0; i--)
            {
                values[i] = values[i / Repeat];
            }

            return;
        }

        if (Order is { } order)
        {
            var plain = this with { Order = null };
            values.Clear();
            for (var i = 0; i < rows; i++)
            {
                if (order[row + i] is var at and >= 0)
                {
                    plain.ReadRows(files, at, 1, scale, values[(int)(i * Columns)..], scratch);
                }
            }

            return;
        }

        if (IsScattered)
        {
            ReadScattered(files, row, rows, values, scratch);
        }
        else if (Transposed)
        {
            ReadTransposed(files, row, rows, values, scratch);
        }
        else
        {
            AdapterValues.Read(files, Tensor, StoredRows.At(row) * _stored, values, scratch);
        }

        AdapterValues.RequireFinite<float>(Tensor, values);
        if (scale != 1)
        {
            Scaling.Multiply(values, scale);
        }
    }

    private void ReadTransposed(InputFiles files, long row, int rows, Span<float> values, Span<byte> scratch)
    {
        var columns = (int)Columns;
        var line = rows <= 1024 ? stackalloc float[rows] : new float[rows];
        for (var column = 0; column < columns; column++)
        {
            AdapterValues.Read(files, Tensor, (StoredRows.At(column) * _stored) + StoredColumns.At(row), line, scratch);
            for (var i = 0; i < rows; i++)
            {
                values[(i * columns) + column] = line[i];
            }
        }
    }

    // For B of fused experts, in which every expert has a few numbers of every stored row: the tensor is read once for all of them.
    private void ReadScattered(InputFiles files, long row, int rows, Span<float> values, Span<byte> scratch)
    {
        var columns = (int)Columns;
        var gathered = scratch[..(values.Length * Width)];
        var line = scratch.Slice(gathered.Length, (int)_stored * Width);
        var shared = Tensor.Length <= files.Shared.Limit;
        using var whole = shared ? files.Shared.Take(Tensor, Tensor.Length, b => files.Read(Tensor, 0, b.Bytes)) : default;
        for (var i = 0; i < (Transposed ? columns : rows); i++)
        {
            var at = StoredRows.At(Transposed ? i : row + i) * line.Length;
            if (shared)
            {
                line = whole.Buffer.Bytes.Slice((int)at, line.Length);
            }
            else
            {
                files.Read(Tensor, at, line);
            }

            if (Transposed)
            {
                Gather(line, StoredColumns.At(row), gathered, i, columns, rows);
            }
            else
            {
                Gather(line, StoredColumns.Start, gathered, i * columns, 1, columns);
            }
        }

        PlainFormat.Decoder(Tensor.Type)(gathered, values);
    }

    // Every stride-th number of a line, from a start, into every other place of the destination.
    private void Gather(ReadOnlySpan<byte> line, long start, Span<byte> to, int first, int distance, int count)
    {
        for (var i = 0; i < count; i++)
        {
            line.Slice((int)(start + (i * StoredColumns.Stride)) * Width, Width).CopyTo(to[((first + (i * distance)) * Width)..]);
        }
    }

    private static StoredTensor RequireFloats(StoredTensor tensor) => tensor.Type.IsPlainFloat()
        ? tensor
        : throw new MergeException(
            MergeError.InvalidAdapter,
            $"The adapter tensor '{tensor.Name}' is stored as {tensor.Type}; only F16, BF16, F32 and F64 can be merged.", tensor.File.Path,
            "Save the adapter again in one of those dtypes.");
}
