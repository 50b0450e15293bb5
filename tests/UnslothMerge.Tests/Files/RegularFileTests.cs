namespace UnslothMerge.Tests.Files;

public sealed partial class RegularFileTests : FileTests
{
    [Theory]
    [InlineData("config.json", "base")]
    [InlineData("model.safetensors", "base")]
    [InlineData("adapter_config.json", "adapter")]
    [InlineData("adapter_model.safetensors", "adapter")]
    [InlineData("LICENSE", "base")]
    public void A_named_pipe_or_a_device_in_place_of_a_file_is_refused(string name, string folder)
    {
        foreach (var (make, kind) in new (Action<string>, string)[]
            { (MakePipe, "named pipe"), (p => File.CreateSymbolicLink(p, "/dev/zero"), "device") })
        {
            new TinyModel(TinyTensor.Random("a.weight", [2, 2], 1)).WithLora(1, "a").Write(Temp);
            var path = Temp[$"{folder}/{name}"];
            File.Delete(path);
            make(path);
            Errors.Expect(
                () =>
                {
                    var step = new AdapterStep(AdapterDirectory.Open(Temp["adapter"]), 1);
                    var plan = MergePlanner.Plan(ModelDirectory.Open(Temp["base"]), [step], null);
                    CarriedFiles.RequireReadable(CarriedFiles.ForModel(plan.Base.Path, []));
                },
                path, kind);
            Directory.Delete(Temp["base"], recursive: true);
            Directory.Delete(Temp["adapter"], recursive: true);
        }
    }

    [Fact]
    public void A_file_that_is_too_long_is_not_read()
    {
        File.WriteAllText(Temp["x"], "12345");
        Assert.Equal(5, RegularFile.ReadAllBytes(Temp["x"], 5).Length);
        Assert.Contains("at most 4", Assert.Throws<IOException>(() => RegularFile.ReadAllBytes(Temp["x"], 4)).Message);
    }

    [Fact]
    public void A_file_that_was_written_to_is_not_what_it_was_though_size_and_time_are_the_same()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only the length and the time of the last write are known here.");
        File.WriteAllText(Temp["x"], "one");
        var file = StoredFile.Of(Temp["x"]);
        Assert.True(file.IsUnchanged);
        SpinWait.SpinUntil(() => DateTime.UtcNow - file.Status.Changed > TimeSpan.FromMilliseconds(20));
        File.WriteAllText(Temp["x"], "two");
        File.SetLastWriteTimeUtc(Temp["x"], file.Status.Modified);
        Assert.False(file.IsUnchanged);
        Errors.Expect(MergeError.FileChanged, () => InputFiles.RequireUnchanged([file]), Temp["x"]);
    }

    private static void MakePipe(string path)
    {
        if (OperatingSystem.IsWindows() || MakePipe(path, 0x1B6) != 0)
        {
            Assert.Skip("There are no named pipes here.");
        }
    }

    [LibraryImport("libc", EntryPoint = "mkfifo", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int MakePipe(string path, uint mode);
}
