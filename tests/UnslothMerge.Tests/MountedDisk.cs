using System.ComponentModel;

namespace UnslothMerge.Tests;

/// <summary>A file system in a file, mounted while a test runs; the test is skipped where that is not allowed.</summary>
internal sealed class MountedDisk : IDisposable
{
    // mkfs.xfs makes none below 300 MB. The file is sparse.
    private const long Bytes = 400_000_000;

    private readonly TemporaryDirectory _directory = new();

    /// <summary>Makes and mounts one: xfs or btrfs.</summary>
    public MountedDisk(string kind)
    {
        var image = _directory["image"];
        using (var file = File.Create(image))
        {
            file.SetLength(Bytes);
        }

        Path = Directory.CreateDirectory(_directory["disk"]).FullName;
        if (!Environment.IsPrivilegedProcess || !Runs($"mkfs.{kind}", "-q", image) || !Runs("mount", "-o", "loop", image, Path))
        {
            _directory.Dispose();
            Assert.Skip($"No {kind} can be made and mounted here.");
        }
    }

    /// <summary>Where it is mounted.</summary>
    public string Path { get; }

    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>The bytes in use once all is on the disk.</summary>
    public long Used
    {
        get
        {
            Assert.True(Runs("sync", "-f", Path));
            var drive = new DriveInfo(Path);
            return drive.TotalSize - drive.TotalFreeSpace;
        }
    }

    /// <summary>Leaves about so many bytes free; none, if that is none.</summary>
    public void Fill(long free)
    {
        const int slack = 4_000_000;
        var taken = -1L;

        // XFS gives back what was deleted a moment later.
        SpinWait.SpinUntil(
            () => (taken = new DriveInfo(Path).AvailableFreeSpace - Math.Max(free, slack)) >= 0, TimeSpan.FromSeconds(30));
        using var file = File.OpenHandle(this["filling"], FileMode.CreateNew, FileAccess.Write, preallocationSize: taken);
        try
        {
            for (var at = taken; free == 0; at += 4096)
            {
                RandomAccess.Write(file, new byte[4096], at);
            }
        }
        catch (IOException)
        {
            // It is full.
        }
    }

    public void Dispose()
    {
        // A process that another test starts has this one's open files for a moment.
        var deadline = Stopwatch.StartNew();
        while (!Runs("umount", Path))
        {
            Assert.True(deadline.Elapsed < TimeSpan.FromMinutes(1), $"'{Path}' is still in use.");
            Thread.Sleep(50);
        }

        _directory.Dispose();
    }

    private static bool Runs(string command, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(command, arguments)
            {
                RedirectStandardOutput = true, RedirectStandardError = true,
            })!;
            process.StandardOutput.ReadToEnd();
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (Win32Exception)
        {
            return false;
        }
    }
}
