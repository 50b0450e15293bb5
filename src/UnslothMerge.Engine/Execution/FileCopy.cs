using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Execution;

/// <summary>
/// Copies the bytes of untouched tensors. With reads and writes that stay in the cache: copy_file_range holds the output's lock while it reads, which
/// other workers then wait for, and a tensor seldom lies where a file system could share its blocks.
/// </summary>
internal static class FileCopy
{
    /// <summary>Copies a part of a stored tensor to the same place in an output.</summary>
    /// <param name="files">The open base files.</param>
    /// <param name="tensor">The stored tensor.</param>
    /// <param name="start">The first byte, counted from the tensor's first.</param>
    /// <param name="length">The number of bytes.</param>
    /// <param name="output">Where they go.</param>
    /// <param name="buffer">The memory to copy through.</param>
    /// <param name="index">The output that they belong to.</param>
    public static void Copy(InputFiles files, StoredTensor tensor, long start, long length, ShardOutput output, Span<byte> buffer, int index = 0)
    {
        for (var copied = 0L; copied < length;)
        {
            var piece = buffer[..(int)Math.Min(buffer.Length, length - copied)];
            files.Read(tensor, start + copied, piece);
            output.Write(index, start + copied, piece);
            copied += piece.Length;
        }
    }
}
