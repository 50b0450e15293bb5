using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using UnslothMerge.IO;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Execution;

/// <summary>Copies the bytes of untouched tensors. On Linux the kernel does it by itself, and shares the blocks where the file system can.</summary>
internal static partial class FileCopy
{
    // Set once copy_file_range has failed: a file system or container that cannot do it once cannot do it at all.
    private static volatile bool _kernelCannot = !OperatingSystem.IsLinux();

    /// <summary>Copies a part of a stored tensor to the same place in an output.</summary>
    /// <param name="files">The open base files.</param>
    /// <param name="tensor">The stored tensor.</param>
    /// <param name="start">The first byte, counted from the tensor's first.</param>
    /// <param name="length">The number of bytes.</param>
    /// <param name="output">Where they go.</param>
    /// <param name="buffer">Memory for the case that the kernel cannot copy.</param>
    /// <param name="index">The output that they belong to.</param>
    public static void Copy(InputFiles files, StoredTensor tensor, long start, long length, ShardOutput output, Span<byte> buffer, int index = 0)
    {
        var copied = _kernelCannot ? 0 : CopyInKernel(files.Open(tensor.File), tensor.Offset + start, output.File, output.Offsets[index] + start, length);
        while (copied < length)
        {
            var piece = buffer[..(int)Math.Min(buffer.Length, length - copied)];
            files.Read(tensor, start + copied, piece);
            output.Write(index, start + copied, piece);
            copied += piece.Length;
        }
    }

    private static long CopyInKernel(SafeFileHandle input, long from, SafeFileHandle output, long to, long length)
    {
        var copied = 0L;
        while (copied < length)
        {
            var (source, destination) = (from + copied, to + copied);
            var count = CopyFileRange(input, ref source, output, ref destination, (nuint)(length - copied), 0);
            if (count <= 0)
            {
                _kernelCannot |= count < 0;
                break;
            }

            copied += count;
        }

        return copied;
    }

    [LibraryImport("libc", EntryPoint = "copy_file_range", SetLastError = true)]
    private static partial nint CopyFileRange(SafeFileHandle input, ref long inputOffset, SafeFileHandle output, ref long outputOffset, nuint length, uint flags);
}
