using System.Buffers.Binary;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Reads whole adapter tensors for changes that are computed in double.</summary>
internal static class AdapterValues
{
    private const int PieceLength = 256 * 1024;

    /// <summary>The values of a tensor, row-major.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static double[] Read(InputFiles files, StoredTensor tensor)
    {
        // Seen as one long column, it can be read piece by piece.
        var column = new FactorMatrix(tensor with { Shape = [tensor.Shape.Count()] }, Transposed: false);
        var values = new double[column.Rows];
        var piece = new float[Math.Min(values.Length, PieceLength)];
        var scratch = new byte[column.ScratchBytes(piece.Length)];
        for (var first = 0; first < values.Length; first += PieceLength)
        {
            var count = Math.Min(PieceLength, values.Length - first);
            column.ReadRows(files, first, count, 1, piece, scratch);
            for (var i = 0; i < count; i++)
            {
                values[first + i] = piece[i];
            }
        }

        return values;
    }

    /// <summary>The values of an I64 tensor.</summary>
    public static long[] ReadIndices(InputFiles files, StoredTensor tensor)
    {
        var bytes = files.ReadAll(tensor);
        var values = new long[bytes.Length / sizeof(long)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = BinaryPrimitives.ReadInt64LittleEndian(bytes.AsSpan(i * sizeof(long)));
        }

        return values;
    }
}
