namespace UnslothMerge.Tests.Saving;

public sealed partial class StagingDirectoryTests : FileTests
{
    private readonly string _out;

    public StagingDirectoryTests() => _out = Temp["out"];

    [Fact]
    public void A_new_model_lands_whole()
    {
        using (var staging = Stage())
        {
            Assert.Equal(Temp.Path, Path.GetDirectoryName(staging.Home));
            Fill(staging.Path, "new");
            Assert.False(Directory.Exists(_out));
            staging.Land(sync: true);
        }

        AssertOnly("new");
    }

    [Fact]
    public void An_old_model_is_there_until_the_new_one_is()
    {
        Fill(_out, "old");
        using (var staging = Stage(force: true))
        {
            Fill(staging.Path, "new");
            Assert.Equal("old", File.ReadAllText(Path.Combine(_out, "config.json")));
            staging.Land(sync: true);
        }

        AssertOnly("new");
    }

    [Fact]
    public void Without_landing_nothing_is_left()
    {
        Fill(_out, "old");
        using (var staging = Stage(force: true))
        {
            Fill(staging.Path, "new");
        }

        AssertOnly("old");
    }

    [Fact]
    public void A_model_that_cannot_land_leaves_the_old_one()
    {
        Fill(_out, "old");
        using (var staging = Stage(force: true))
        {
            // As if something had taken the new model away: it can no longer be renamed.
            Directory.Delete(staging.Path);
            Assert.ThrowsAny<IOException>(() => staging.Land(sync: true));
        }

        AssertOnly("old");
    }

    [Fact]
    public void A_directory_that_took_the_place_of_the_staging_directory_does_not_get_its_name()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Directories have no inode here.");
        using (var staging = Stage())
        {
            Directory.Move(staging.Path, staging.Path + ".mine");
            Fill(staging.Path, "somebody else's");
            Assert.Contains("was moved or replaced", Assert.ThrowsAny<IOException>(() => staging.Land(sync: true)).Message);
        }

        Assert.False(Directory.Exists(_out));
    }

    [Fact]
    public void What_appeared_at_the_destination_meanwhile_is_not_replaced_without_force()
    {
        using (var staging = Stage())
        {
            Fill(staging.Path, "new");
            Fill(_out, "somebody else's");
            var error = Errors.Expect(MergeError.DestinationExists, () => staging.Land(sync: true));
            Assert.DoesNotContain("interrupted", error.Advice, StringComparison.Ordinal);
        }

        AssertOnly("somebody else's");
    }

    [Fact]
    public void Missing_parents_are_made()
    {
        var deep = Temp["a/b/out"];
        using var staging = StagingDirectory.Create(Destination.Check(deep, [], force: false), SystemDisk.Instance);
        Fill(staging.Path, "new");
        staging.Land(sync: true);
        Assert.Equal("new", File.ReadAllText(Path.Combine(deep, "config.json")));
    }

    [Fact]
    public void Parents_that_were_made_for_nothing_are_taken_away()
    {
        Directory.CreateDirectory(Temp["a"]);
        using (var staging = StagingDirectory.Create(Destination.Check(Temp["a/b/c/out"], [], force: false), SystemDisk.Instance))
        {
            Fill(staging.Path, "new");
        }

        Assert.Equal([Temp["a"]], Directory.EnumerateFileSystemEntries(Temp.Path, "*", SearchOption.AllDirectories));
    }

    [Fact]
    public void A_place_below_a_file_is_refused()
    {
        File.WriteAllText(Temp["file"], "");
        Errors.Expect(MergeError.WriteFailed,
            () => StagingDirectory.Create(Destination.Check(Temp["file/out"], [], force: false), SystemDisk.Instance));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_mount_point_keeps_its_directory(bool lands)
    {
        using var mount = new Mount(_out);
        Fill(_out, "old");
        File.WriteAllText(Path.Combine(_out, "tokenizer.json"), "");
        using (var staging = Stage(force: true))
        {
            Assert.Equal(_out, Path.GetDirectoryName(staging.Home));
            Fill(staging.Path, "new");
            Directory.CreateDirectory(Path.Combine(staging.Path, "1_Pooling"));
            if (lands)
            {
                staging.Land(sync: true);
            }
        }

        Assert.Equal(lands ? "new" : "old", File.ReadAllText(Path.Combine(_out, "config.json")));
        Assert.Equal(
            lands ? ["1_Pooling", "config.json", "model.safetensors"] : ["config.json", "model.safetensors", "tokenizer.json"],
            Directory.EnumerateFileSystemEntries(_out).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void A_mount_point_gets_its_old_files_back_if_the_new_ones_cannot_land()
    {
        using var mount = new Mount(_out);
        Fill(_out, "old");
        using (var staging = Stage(force: true))
        {
            Directory.Delete(staging.Path);
            Assert.ThrowsAny<IOException>(() => staging.Land(sync: true));
        }

        Assert.Equal("old", File.ReadAllText(Path.Combine(_out, "config.json")));
        Assert.Equal(["config.json", "model.safetensors"], Directory.EnumerateFiles(_out).Select(Path.GetFileName).Order());
    }

    private StagingDirectory Stage(bool force = false) => StagingDirectory.Create(Destination.Check(_out, [], force), SystemDisk.Instance);

    private static void Fill(string directory, string text)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "config.json"), text);
        File.WriteAllText(Path.Combine(directory, "model.safetensors"), text);
    }

    private void AssertOnly(string text)
    {
        Assert.Equal([_out], Directory.EnumerateFileSystemEntries(Temp.Path));
        Assert.Equal(text, File.ReadAllText(Path.Combine(_out, "config.json")));
        Assert.Equal(2, Directory.EnumerateFileSystemEntries(_out).Count());
    }

    // A file system in memory; only root may mount one.
    private sealed partial class Mount : IDisposable
    {
        private readonly string _path;

        public Mount(string path)
        {
            _path = Directory.CreateDirectory(path).FullName;
            if (!OperatingSystem.IsLinux() || MountAt("tmpfs", _path, "tmpfs", 0, "size=1m") != 0)
            {
                Assert.Skip("Nothing can be mounted here.");
            }
        }

        public void Dispose() => _ = Unmount(_path);

        [LibraryImport("libc", EntryPoint = "mount", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
        private static partial int MountAt(string source, string target, string type, nuint flags, string data);

        [LibraryImport("libc", EntryPoint = "umount", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
        private static partial int Unmount(string target);
    }
}
