namespace UnslothMerge.Files;

/// <summary>
/// What stat(2) says of a file, links followed. Two statuses are equal if nothing wrote to the file, replaced it, or changed its inode in
/// between. Where only .NET can be asked (not on Linux), it is the length and the time of the last write.
/// </summary>
internal readonly record struct FileStatus(FileKind Kind, long Length, DateTime Modified, DateTime Changed, ulong Inode, ulong Device)
{
    /// <summary>The status of a path, or null if there is nothing or it cannot be asked for.</summary>
    public static unsafe FileStatus? Of(string path)
    {
        if (OperatingSystem.IsLinux())
        {
            SystemCalls.Status status;
            var error = SystemCalls.GetStatus(SystemCalls.CurrentDirectory, path, 0, SystemCalls.BasicStatus, &status);
            return error != 0 ? null : new FileStatus(
                (status.Mode & 0xF000) switch
                {
                    0x8000 => FileKind.Regular,
                    0x4000 => FileKind.Directory,
                    0x1000 => FileKind.NamedPipe,
                    0xC000 => FileKind.Socket,
                    _ => FileKind.Device,
                },
                (long)status.Size,
                Time(status.ModifiedSeconds, status.ModifiedNanoseconds),
                Time(status.ChangedSeconds, status.ChangedNanoseconds),
                status.Inode,
                ((ulong)status.DeviceMajor << 32) | status.DeviceMinor);
        }

        var file = new FileInfo(path);
        return file.Exists ? new FileStatus(FileKind.Regular, file.Length, file.LastWriteTimeUtc, default, 0, 0)
            : Directory.Exists(path) ? new FileStatus(FileKind.Directory, 0, default, default, 0, 0)
            : null;
    }

    private static DateTime Time(long seconds, uint nanoseconds) =>
        DateTime.UnixEpoch.AddSeconds(seconds).AddTicks(nanoseconds / TimeSpan.NanosecondsPerTick);
}

/// <summary>The kinds of files that a path may lead to.</summary>
internal enum FileKind
{
    Regular,
    Directory,
    NamedPipe,
    Socket,
    Device,
}
