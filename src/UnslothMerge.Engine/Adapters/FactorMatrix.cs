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
public sealed record FactorMatrix(StoredTensor Tensor, bool Transposed)
{
    private readonly long _first = RequireFloats(Tensor).Shape[0];
    private readonly long _rest = Tensor.Shape.Skip(1).Aggregate(1L, (a, b) => checked(a * b));

    /// <summary>The number of rows.</summary>
    public long Rows => Transposed ? _rest : _first;

    /// <summary>The number of columns.</summary>
    public long Columns => Transposed ? _first : _rest;

    private int Width => Tensor.Type.Bits() / 8;

    /// <summary>The bytes that <see cref="ReadRows"/> needs beside its result.</summary>
    public long ScratchBytes(int rows) => rows * Columns * Width;

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
        var decode = PlainFormat.Decoder(Tensor.Type);
        if (!Transposed)
        {
            var stored = scratch[..(values.Length * Width)];
            files.Read(Tensor, row * columns * Width, stored);
            decode(stored, values);
        }
        else
        {
            var stored = scratch[..(rows * Width)];
            var line = rows <= 1024 ? stackalloc float[rows] : new float[rows];
            for (var column = 0; column < columns; column++)
            {
                files.Read(Tensor, (((long)column * Rows) + row) * Width, stored);
                decode(stored, line);
                for (var i = 0; i < rows; i++)
                {
                    values[(i * columns) + column] = line[i];
                }
            }
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

    private static StoredTensor RequireFloats(StoredTensor tensor) => tensor.Type.IsPlainFloat()
        ? tensor
        : throw new MergeException(
            MergeError.InvalidAdapter,
            $"The adapter tensor '{tensor.Name}' is stored as {tensor.Type}; only F16, BF16, F32 and F64 can be merged.",
            tensor.File.Path,
            "Save the adapter again in one of those dtypes.");

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
