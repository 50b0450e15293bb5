namespace UnslothMerge.Files;

/// <summary>All that a save, a download or a publication changes on a disk, and the bytes that it reads, call by call: tests let each call
/// fail, and replay what a loss of power leaves. An error of the disk is an <see cref="IOException"/> or an <see
/// cref="UnauthorizedAccessException"/>.</summary>
internal interface IDisk
{
    /// <summary>True if shards may be written past the page cache as well, without <see cref="Write"/>.</summary>
    bool AllowsDirectWrites { get; }

    /// <summary>True if a path is the root of a file system, whose name cannot be given to another directory.</summary>
    bool IsMountPoint(string path);

    /// <summary>Opens a regular file for <see cref="Read"/>.</summary>
    SafeFileHandle Open(string path);

    /// <summary>Reads some bytes from an offset on, and none only at the end of the file; gives how many.</summary>
    int Read(SafeFileHandle file, Span<byte> bytes, long at);

    /// <summary>Makes a file that must not exist yet, with space for so many bytes.</summary>
    SafeFileHandle Create(string path, long preallocated = 0);

    /// <summary>Opens a file for reading and writing, or makes it.</summary>
    SafeFileHandle OpenOrCreate(string path);

    /// <summary>Makes a file that must not exist yet as a clone of another one: both have the same blocks, and each gets blocks of its
    /// own where it is written to. Null, and why, if the system cannot; then there is no file.</summary>
    SafeFileHandle? TryClone(string source, string path, out string? obstacle);

    void SetLength(SafeFileHandle file, long length);

    void Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, long at);

    /// <summary>Closes a file that was written to. Network file systems and quotas may tell only then that they did not take all of
    /// it.</summary>
    void Close(SafeFileHandle file);

    /// <summary>Starts writing a file's data to the disk, without waiting, so that the flush at the end is short. A hint.</summary>
    void BeginFlush(SafeFileHandle file);

    /// <summary>Flushes a file's data to the disk. No handle that excludes writers may be open.</summary>
    /// <exception cref="IOException">The disk did not take all of it.</exception>
    void Flush(string path);

    /// <summary>Flushes a directory's entries to the disk.</summary>
    /// <exception cref="IOException">The disk did not take them.</exception>
    void FlushDirectory(string path);

    /// <summary>Makes a directory in one that exists.</summary>
    void CreateDirectory(string path);

    /// <summary>Renames a file or a directory; the new name must be free, or that of a file if this is one.</summary>
    void Move(string from, string to);

    /// <summary>Exchanges the names of two directories in one step; false if the system cannot.</summary>
    bool TryExchange(string one, string other);

    /// <summary>Deletes a file or a link.</summary>
    void DeleteFile(string path);

    /// <summary>Deletes an empty directory.</summary>
    void DeleteDirectory(string path);
}
