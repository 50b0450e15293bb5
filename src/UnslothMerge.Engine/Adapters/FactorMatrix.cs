using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters;

/// <summary>
/// One of the two factors of a low-rank delta, as a matrix [<see cref="Rows"/>, <see cref="Columns"/>] that may be stored the other way round.
/// Rows are read as they are needed: the factors of a large vocabulary take hundreds of megabytes.
/// </summary>
/// <param name="Tensor">The stored tensor; dimensions after the second are flattened into it.</param>
/// <param name="Transposed">True if the tensor is stored as [<see cref="Columns"/>, <see cref="Rows"/>].</param>
/// <param name="Blocks">If not 1: the tensor's rows are so many blocks of rows, which stand on the diagonal of a matrix that is zero elsewhere.</param>
public sealed record FactorMatrix(StoredTensor Tensor, bool Transposed, int Blocks = 1)
{
    private readonly long _first = Tensor.Shape[0];
    private readonly long _rest = Tensor.Shape.Skip(1).Aggregate(1L, (a, b) => checked(a * b));

    /// <summary>The number of rows.</summary>
    public long Rows => Transposed ? _rest * Blocks : _first;

    /// <summary>The number of columns.</summary>
    public long Columns => Transposed ? _first : _rest * Blocks;

    private int Width => Tensor.Type.Bits() / 8;

    /// <summary>The bytes that <see cref="ReadRows"/> needs beside its result.</summary>
    public long ScratchBytes(int rows) => rows * Columns * Width;

    /// <summary>The matrix with rows and columns exchanged.</summary>
    public FactorMatrix Transpose() => this with { Transposed = !Transposed };

    /// <summary>Reads a whole, small tensor of any shape as fp32.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="tensor">The tensor.</param>
    /// <param name="scale">A factor, multiplied in double and rounded once.</param>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static float[] ReadVector(InputFiles files, StoredTensor tensor, double scale = 1)
    {
        var vector = new FactorMatrix(tensor with { Shape = [tensor.Shape.Count()] }, Transposed: false);
        var values = new float[vector.Rows];
        vector.ReadRows(files, 0, values.Length, scale, values, new byte[vector.ScratchBytes(values.Length)]);
        return values;
    }

    /// <summary>Reads rows as fp32.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="scale">A factor, multiplied in double and rounded once.</param>
    /// <param name="values">Receives [rows, columns], row-major.</param>
    /// <param name="scratch">As many bytes as <see cref="ScratchBytes"/> says.</param>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public void ReadRows(InputFiles files, long row, int rows, double scale, Span<float> values, Span<byte> scratch)
    {
        var columns = (int)Columns;
        values = values[..(rows * columns)];
        if (Blocks > 1)
        {
            values.Clear();
        }

        if (Transposed)
        {
            ReadColumns(files, row, rows, values, scratch);
        }
        else
        {
            ReadStoredRows(files, row, rows, values, scratch);
        }

        RequireFinite(values);
        if (scale != 1)
        {
            for (var i = 0; i < values.Length; i++)
            {
                values[i] = (float)(values[i] * scale);
            }
        }
    }

    private void ReadStoredRows(InputFiles files, long row, int rows, Span<float> values, Span<byte> scratch)
    {
        var decode = PlainFormat.Decoder(Tensor.Type);
        var (columns, width) = ((int)Columns, (int)_rest);
        var stored = scratch[..(rows * width * Width)];
        files.Read(Tensor, row * width * Width, stored);
        if (Blocks == 1)
        {
            decode(stored, values);
            return;
        }

        for (var i = 0; i < rows; i++)
        {
            decode(stored.Slice(i * width * Width, width * Width), values.Slice((i * columns) + (int)(BlockOf(row + i) * width), width));
        }
    }

    // A column of the matrix is a row of the tensor.
    private void ReadColumns(InputFiles files, long row, int rows, Span<float> values, Span<byte> scratch)
    {
        var decode = PlainFormat.Decoder(Tensor.Type);
        var columns = (int)Columns;
        var line = rows <= 1024 ? stackalloc float[rows] : new float[rows];
        for (var column = 0; column < columns; column++)
        {
            var start = BlockOf(column) * _rest;
            var (first, end) = (Math.Max(row, start), Math.Min(row + rows, start + _rest));
            if (first >= end)
            {
                continue;
            }

            var count = (int)(end - first);
            var stored = scratch[..(count * Width)];
            files.Read(Tensor, ((column * _rest) + first - start) * Width, stored);
            decode(stored, line[..count]);
            for (var i = 0; i < count; i++)
            {
                values[(((int)(first - row) + i) * columns) + column] = line[i];
            }
        }
    }

    private long BlockOf(long storedRow) => storedRow / (_first / Blocks);

    private void RequireFinite(ReadOnlySpan<float> values)
    {
        if (!TensorPrimitives.IsFiniteAll(values))
        {
            throw new MergeException(
                MergeError.InvalidAdapter,
                $"The adapter tensor '{Tensor.Name}' holds NaN or Inf: merging it would ruin the model.",
                Tensor.File.Path,
                "The training diverged. Use an earlier checkpoint of the adapter.");
        }
    }
}
