using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Formats;

/// <summary>Reads a rectangle of a stored matrix of bytes: as one piece where the rows lie side by side, else row by row.</summary>
internal static class StridedReads
{
    /// <summary>Reads a rectangle.</summary>
    /// <param name="files">The open files.</param>
    /// <param name="tensor">The stored tensor, seen as rows of <paramref name="rowBytes"/>.</param>
    /// <param name="rowBytes">The bytes of a stored row.</param>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="start">The first byte within a row.</param>
    /// <param name="length">The bytes of each row.</param>
    /// <param name="destination">Receives [rows, length].</param>
    /// <param name="pitch">The distance between two rows in the destination.</param>
    public static void Read(InputFiles files, StoredTensor tensor, long rowBytes, long row, int rows, long start, int length, Span<byte> destination, int pitch)
    {
        if (length == rowBytes && length == pitch)
        {
            files.Read(tensor, row * rowBytes, destination[..(rows * length)]);
            return;
        }

        for (var i = 0; i < rows; i++)
        {
            files.Read(tensor, ((row + i) * rowBytes) + start, destination.Slice(i * pitch, length));
        }
    }
}
