using Microsoft.Win32.SafeHandles;

namespace UnslothMerge.IO;

/// <summary>A file for what a run works with and memory cannot hold. It has no name as soon as the system allows that, and is gone when it is closed, whatever happens.</summary>
public sealed class ScratchFile : IDisposable
{
    private readonly SafeFileHandle _handle;

    /// <summary>Makes a file.</summary>
    /// <param name="directory">A directory on the file system that it takes space on.</param>
    /// <param name="length">Its length in bytes; the space is taken at once.</param>
    /// <exception cref="MergeException">It cannot be made there.</exception>
    public ScratchFile(string directory, long length)
    {
        var path = Path.Combine(directory, $".unslothmerge-{Guid.NewGuid():N}");
        try
        {
            _handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Delete, FileOptions.DeleteOnClose, length);
            if (!OperatingSystem.IsWindows())
            {
                File.Delete(path);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _handle?.Dispose();
            throw new MergeException(MergeError.InvalidDestination, $"No file of {ByteSize.Text(length)} can be made in '{directory}': {e.Message}", directory, "Choose another -TemporaryLocation, or raise -MaximumMemoryUsage.", e);
        }
    }

    /// <summary>Writes bytes to a place.</summary>
    public void Write(long offset, ReadOnlySpan<byte> bytes) => RandomAccess.Write(_handle, bytes, offset);

    /// <summary>Reads bytes that were written.</summary>
    public void Read(long offset, Span<byte> bytes)
    {
        if (!_handle.ReadFully(bytes, offset))
        {
            throw new EndOfStreamException();
        }
    }

    /// <summary>Waits until everything is on the disk.</summary>
    public void Flush() => RandomAccess.FlushToDisk(_handle);

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
