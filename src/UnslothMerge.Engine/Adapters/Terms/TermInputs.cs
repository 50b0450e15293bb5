using System.Buffers.Binary;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using UnslothMerge.Formats;
using UnslothMerge.Safetensors;
using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Reads what a delta is made of when a run comes to its target.</summary>
/// <param name="context">The target.</param>
/// <param name="transposed">True if the target is stored as [in, out].</param>
internal sealed class TermInputs(DeltaContext context, bool transposed)
{
    // Values that are decoded at a time: no second copy of a large tensor.
    private const int ChunkValues = 64 * 1024;

    /// <summary>Reads a tensor in double.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public double[] Read(StoredTensor tensor)
    {
        var values = ReadUnchecked(tensor);
        AdapterValues.RequireFinite<double>(tensor, values);
        return values;
    }

    /// <summary>Reads a tensor in double in which infinities may have a meaning.</summary>
    public double[] ReadUnchecked(StoredTensor tensor)
    {
        var values = new double[tensor.Shape.Count()];
        for (var at = 0; at < values.Length; at += ChunkValues)
        {
            Decode(tensor, at, values.AsSpan(at, Math.Min(ChunkValues, values.Length - at)));
        }

        return values;
    }

    /// <summary>Reads the upper left corner of a tensor as a matrix; all its dimensions but the first are its columns.</summary>
    /// <typeparam name="T">double, or float for large tensors.</typeparam>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public T[] ReadCorner<T>(StoredTensor tensor, int rows, int columns)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var width = tensor.Shape.Count() / tensor.Shape[0];
        var corner = new T[rows * columns];
        var line = new double[columns];
        for (var row = 0; row < rows; row++)
        {
            Decode(tensor, row * width, line);
            AdapterValues.RequireFinite<double>(tensor, line);
            TensorPrimitives.ConvertTruncating<double, T>(line, corner.AsSpan(row * columns, columns));
        }

        return corner;
    }

    /// <summary>Reads whole numbers that must lie in a range.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="limits">One limit, or one for each of its equal parts.</param>
    /// <exception cref="MergeException">One does not.</exception>
    public int[] ReadIndices(StoredTensor tensor, params long[] limits)
    {
        var stored = context.Files.ReadAll(tensor);
        var indices = new int[tensor.Shape.Count()];
        for (var i = 0; i < indices.Length; i++)
        {
            long value = tensor.Type switch
            {
                TensorType.U8 => stored[i],
                TensorType.I16 => BinaryPrimitives.ReadInt16LittleEndian(stored.AsSpan(2 * i)),
                TensorType.I32 => BinaryPrimitives.ReadInt32LittleEndian(stored.AsSpan(4 * i)),
                _ => BinaryPrimitives.ReadInt64LittleEndian(stored.AsSpan(8 * i)),
            };
            var limit = Math.Min(limits[(long)i * limits.Length / indices.Length], int.MaxValue);
            indices[i] = value >= 0 && value < limit
                ? (int)value
                : throw new MergeException(MergeError.InvalidAdapter, $"The adapter tensor '{tensor.Name}' holds the index {value}, which must lie from 0 to {limit - 1}.", tensor.File.Path);
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
                        product[(k * inputs) + at] = FixedOrder.Dot(factors.AsSpan(k * outputs, outputs), line);
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

    private void Decode(StoredTensor tensor, long start, Span<double> values)
    {
        var width = tensor.Type.Bits() / 8;
        var stored = new byte[values.Length * width];
        context.Files.Read(tensor, start * width, stored);
        if (tensor.Type == TensorType.F64)
        {
            MemoryMarshal.Cast<byte, double>(stored).CopyTo(values);
            return;
        }

        var singles = new float[values.Length];
        PlainFormat.Decoder(tensor.Type)(stored, singles);
        TensorPrimitives.ConvertTruncating<float, double>(singles, values);
    }
}
