using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Execution;

/// <summary>
/// Copies the bytes of untouched tensors, in whole blocks of the output. With reads and writes that stay in the cache: copy_file_range holds the
/// output's lock while it reads, which other workers then wait for, and a tensor seldom lies where a file system could share its blocks.
/// </summary>
internal static class FileCopy
{
    /// <summary>Copies a part of a stored tensor to the same place in an output.</summary>
    /// <param name="files">The open base files.</param>
    /// <param name="tensor">The stored tensor.</param>
    /// <param name="start">The first byte, counted from the tensor's first.</param>
    /// <param name="length">The number of bytes.</param>
    /// <param name="output">Where they go.</param>
    /// <param name="buffer">The memory to copy through, as long as a block.</param>
    /// <param name="index">The output that they belong to.</param>
    public static void Copy(InputFiles files, StoredTensor tensor, long start, long length, ShardOutput output, Span<byte> buffer, int index = 0)
    {
        for (var end = start + length; start < end;)
        {
            var piece = buffer[..(int)Math.Min(end - start, ToBlock(output.Offsets[index] + start, buffer.Length))];
            files.Read(tensor, start, piece);
            output.Write(index, start, piece);
            start += piece.Length;
        }
    }

    /// <summary>The bytes from an offset in a file to where its next block begins.</summary>
    public static long ToBlock(long offset, long blockBytes) => blockBytes - (offset % blockBytes);
}
