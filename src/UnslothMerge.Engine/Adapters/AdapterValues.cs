using System.Numerics;
using UnslothMerge.Simd;

namespace UnslothMerge.Adapters;

/// <summary>Reads the values of adapter tensors: whatever an adapter stores is read here. Tensors of any shape are read as they are stored,
/// row-major.</summary>
internal static class AdapterValues
{
    // Values that are decoded at a time: no second copy of a large tensor.
    private const int PieceValues = 64 * 1024;

    /// <summary>Reads consecutive values as fp32, whatever they are. The scratch has room for as many values as they are stored.</summary>
    public static void Read(InputFiles files, StoredTensor tensor, long first, Span<float> values, Span<byte> scratch)
    {
        if (!tensor.Type.IsPlainFloat())
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter tensor '{tensor.Name}' is {tensor.Type}, not plain numbers.", tensor.File.Path,
                "Save the trained adapter again.");
        }

        var width = tensor.Type.Bits() / 8;
        var stored = scratch[..(values.Length * width)];
        files.Read(tensor, first * width, stored);
        PlainFormat.Decoder(tensor.Type)(stored, values);
    }

    /// <summary>Reads a whole tensor in double, and refuses NaN, and infinity where it has no meaning.</summary>
    public static double[] Read(InputFiles files, StoredTensor tensor, bool mayBeInfinite = false)
    {
        var values = new double[tensor.Shape.Count()];
        for (var at = 0; at < values.Length; at += PieceValues)
        {
            Read(files, tensor, at, values.AsSpan(at, Math.Min(PieceValues, values.Length - at)));
        }

        if (!mayBeInfinite)
        {
            RequireFinite<double>(tensor, values);
        }

        return values;
    }

    /// <summary>Reads a small tensor as fp32, times a scale, multiplied in double and rounded once.</summary>
    public static float[] ReadFloats(InputFiles files, StoredTensor tensor, double scale = 1)
    {
        var values = new float[tensor.Shape.Count()];
        Read(files, tensor, 0, values, new byte[tensor.Length]);
        RequireFinite<float>(tensor, values);
        if (scale != 1)
        {
            Scaling.Multiply(values, scale);
        }

        return values;
    }

    /// <summary>Reads the upper left corner [rows, columns] of a tensor as a matrix; all its dimensions but the first are its
    /// columns.</summary>
    public static T[] ReadCorner<T>(InputFiles files, StoredTensor tensor, int rows, int columns)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var width = tensor.Shape.Count() / tensor.Shape[0];
        var corner = new T[rows * columns];
        var line = new double[columns];
        for (var row = 0; row < rows; row++)
        {
            Read(files, tensor, row * width, line);
            RequireFinite<double>(tensor, line);
            TensorPrimitives.ConvertTruncating<double, T>(line, corner.AsSpan(row * columns, columns));
        }

        return corner;
    }

    /// <summary>Reads whole numbers below a limit: one limit, or one for each of the tensor's equal parts.</summary>
    public static int[] ReadIndices(InputFiles files, StoredTensor tensor, params long[] limits)
    {
        var stored = files.ReadAll(tensor);
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
                : throw new MergeException(
                    MergeError.InvalidAdapter,
                    $"The adapter tensor '{tensor.Name}' holds the index {value}, which must lie from 0 to {limit - 1}.", tensor.File.Path);
        }

        return indices;
    }

    /// <summary>Refuses an adapter that was ruined in training.</summary>
    public static void RequireFinite<T>(StoredTensor tensor, ReadOnlySpan<T> values)
        where T : IFloatingPoint<T>
    {
        if (!values.IsEmpty && !TensorPrimitives.IsFiniteAll(values))
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter tensor '{tensor.Name}' holds NaN or Inf: it cannot be merged.", tensor.File.Path,
                "The training diverged. Use an earlier checkpoint of the adapter.");
        }
    }

    // F64 keeps its digits.
    private static void Read(InputFiles files, StoredTensor tensor, long first, Span<double> values)
    {
        if (tensor.Type == TensorType.F64)
        {
            files.Read(tensor, first * sizeof(double), MemoryMarshal.AsBytes(values));
            return;
        }

        var singles = new float[values.Length];
        Read(files, tensor, first, singles, new byte[values.Length * sizeof(float)]);
        TensorPrimitives.ConvertTruncating<float, double>(singles, values);
    }
}
