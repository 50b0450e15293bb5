using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using UnslothMerge.Formats;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Reads what a delta is made of when a run comes to its target.</summary>
/// <param name="context">The target.</param>
/// <param name="transposed">True if the target is stored as [in, out].</param>
public sealed class TermInputs(DeltaContext context, bool transposed)
{
    /// <summary>Reads a tensor in double.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public double[] Read(StoredTensor tensor)
    {
        var values = ReadUnchecked(tensor);
        return TensorPrimitives.IsFiniteAll<double>(values)
            ? values
            : throw new MergeException(
                MergeError.InvalidAdapter,
                $"The adapter tensor '{tensor.Name}' holds NaN or Inf: merging it would ruin the model.",
                tensor.File.Path,
                "The training diverged. Use an earlier checkpoint of the adapter.");
    }

    /// <summary>Reads a tensor in double in which infinities may have a meaning.</summary>
    public double[] ReadUnchecked(StoredTensor tensor)
    {
        var stored = context.Files.ReadAll(tensor);
        if (tensor.Type == TensorType.F64)
        {
            return MemoryMarshal.Cast<byte, double>(stored).ToArray();
        }

        var singles = new float[tensor.Shape.Count()];
        PlainFormat.Decoder(tensor.Type)(stored, singles);
        var values = new double[singles.Length];
        TensorPrimitives.ConvertTruncating<float, double>(singles, values);
        return values;
    }

    /// <summary>Reads the first rows and columns of a tensor [rows, columns].</summary>
    public double[] ReadCorner(StoredTensor tensor, int rows, int columns) => Corner(Read(tensor), (int)tensor.Shape[^1], rows, columns);

    /// <summary>Reads whole numbers that must lie in a range.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="limits">One limit, or one for each of its equal parts.</param>
    /// <exception cref="MergeException">One does not.</exception>
    public int[] ReadIndices(StoredTensor tensor, params long[] limits)
    {
        var stored = context.Files.ReadAll(tensor);
        long[] values = tensor.Type switch
        {
            TensorType.U8 => [.. stored.Select(v => (long)v)],
            TensorType.I16 => Widen<short>(stored, v => v),
            TensorType.I32 => Widen<int>(stored, v => v),
            TensorType.I64 => Widen<long>(stored, v => v),
            _ => throw new ArgumentOutOfRangeException(nameof(tensor), tensor.Type, "Not a dtype of indices."),
        };
        var indices = new int[values.Length];
        for (var i = 0; i < values.Length; i++)
        {
            var limit = limits[(long)i * limits.Length / values.Length];
            indices[i] = values[i] >= 0 && values[i] < limit
                ? checked((int)values[i])
                : throw new MergeException(MergeError.InvalidAdapter, $"The adapter tensor '{tensor.Name}' holds the index {values[i]}, which must lie from 0 to {limit - 1}.", tensor.File.Path);
        }

        return indices;
    }

    /// <summary>factors · W, with the target's weights as W [out, in]: one pass over them.</summary>
    /// <param name="factors">[rows, out].</param>
    /// <param name="rows">The number of rows.</param>
    /// <returns>[rows, in].</returns>
    public double[] TimesWeight(double[] factors, int rows)
    {
        var view = context.View;
        var (outputs, inputs) = transposed ? (view.Columns, (int)view.Rows) : ((int)view.Rows, view.Columns);
        var product = new double[rows * inputs];
        var line = new double[view.Columns];
        context.Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var at = (int)tile.Row + i;
                TensorPrimitives.ConvertTruncating<float, double>(tile.WeightRow(i), line);
                for (var k = 0; k < rows; k++)
                {
                    if (transposed)
                    {
                        product[(k * inputs) + at] = Sum(factors.AsSpan(k * outputs, outputs), line);
                    }
                    else
                    {
                        var row = product.AsSpan(k * inputs, inputs);
                        TensorPrimitives.FusedMultiplyAdd(line, factors[(k * outputs) + at], row, row);
                    }
                }
            }
        });
        return product;
    }

    /// <summary>The first rows and columns of a matrix with so many columns.</summary>
    public static double[] Corner(double[] matrix, int width, int rows, int columns)
    {
        if (width == columns)
        {
            return matrix[..(rows * columns)];
        }

        var corner = new double[rows * columns];
        for (var row = 0; row < rows; row++)
        {
            matrix.AsSpan(row * width, columns).CopyTo(corner.AsSpan(row * columns));
        }

        return corner;
    }

    /// <summary>The transpose of a matrix [rows, columns].</summary>
    public static double[] Transpose(double[] matrix, int rows, int columns)
    {
        var result = new double[matrix.Length];
        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                result[(column * rows) + row] = matrix[(row * columns) + column];
            }
        }

        return result;
    }

    /// <summary>left · right, with left [rows, inner] and right [inner, columns].</summary>
    public static double[] Multiply(double[] left, double[] right, int rows, int inner, int columns)
    {
        var product = new double[rows * columns];
        new ProductMatrix(left, right, inner, columns).Fill(new Block(0, rows, 0, columns), product);
        return product;
    }

    // In order, so that the result is the same on every machine.
    private static double Sum(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        var sum = 0.0;
        for (var i = 0; i < a.Length; i++)
        {
            sum = Math.FusedMultiplyAdd(a[i], b[i], sum);
        }

        return sum;
    }

    private static long[] Widen<T>(byte[] stored, Converter<T, long> widen)
        where T : unmanaged => Array.ConvertAll(MemoryMarshal.Cast<byte, T>(stored).ToArray(), widen);
}
