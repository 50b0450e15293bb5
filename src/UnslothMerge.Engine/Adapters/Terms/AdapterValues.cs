using System.Numerics;
using System.Numerics.Tensors;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Reads whole adapter tensors.</summary>
internal static class AdapterValues
{
    private const int PieceLength = 256 * 1024;

    /// <summary>The values of a tensor, row-major.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static double[] Read(InputFiles files, StoredTensor tensor)
    {
        var column = AsColumn(tensor);
        var values = new double[column.Rows];
        var piece = new float[Math.Min(values.Length, PieceLength)];
        var scratch = new byte[column.ScratchBytes(piece.Length)];
        for (var first = 0; first < values.Length; first += PieceLength)
        {
            var count = Math.Min(PieceLength, values.Length - first);
            column.ReadRows(files, first, count, 1, piece, scratch);
            TensorPrimitives.ConvertTruncating<float, double>(piece.AsSpan(0, count), values.AsSpan(first, count));
        }

        return values;
    }

    /// <summary>The values of a small tensor as fp32, row-major.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="tensor">The tensor.</param>
    /// <param name="scale">A factor, multiplied in double and rounded once.</param>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static float[] ReadFloats(InputFiles files, StoredTensor tensor, double scale = 1)
    {
        var column = AsColumn(tensor);
        var values = new float[column.Rows];
        column.ReadRows(files, 0, values.Length, scale, values, new byte[column.ScratchBytes(values.Length)]);
        return values;
    }

    /// <summary>Refuses an adapter that was ruined in training.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static void RequireFinite<T>(StoredTensor tensor, ReadOnlySpan<T> values)
        where T : IFloatingPoint<T>
    {
        if (!values.IsEmpty && !TensorPrimitives.IsFiniteAll(values))
        {
            throw new MergeException(
                MergeError.InvalidAdapter,
                $"The adapter tensor '{tensor.Name}' holds NaN or Inf: merging it would ruin the model.",
                tensor.File.Path,
                "The training diverged. Use an earlier checkpoint of the adapter.");
        }
    }

    // Seen as one long column, a tensor of any shape can be read piece by piece.
    private static FactorMatrix AsColumn(StoredTensor tensor) => new(tensor with { Shape = [tensor.Shape.Count()] }, Transposed: false);
}
