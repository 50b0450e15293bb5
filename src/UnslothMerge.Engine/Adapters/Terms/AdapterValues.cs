using System.Buffers.Binary;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Reads whole adapter tensors for changes that are computed in double.</summary>
internal static class AdapterValues
{
    /// <summary>The values of a tensor, row-major.</summary>
    /// <exception cref="MergeException">A value is NaN or infinite.</exception>
    public static double[] Read(InputFiles files, StoredTensor tensor)
    {
        if (tensor.Shape.Count() == 0)
        {
            return [];
        }

        var vector = new FactorMatrix(tensor, Transposed: false);
        var values = new float[tensor.Shape.Count()];
        vector.ReadRows(files, 0, (int)vector.Rows, 1, values, new byte[vector.ScratchBytes((int)vector.Rows)]);
        return Array.ConvertAll(values, v => (double)v);
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
