using UnslothMerge.Torch.Native;

namespace UnslothMerge.Tests.Devices;

/// <summary>What can be known of a libtorch before it is loaded. The files here are empty: nothing loads them.</summary>
public sealed class LibTorchTests : FileTests
{
    [Theory]
    [InlineData("venv/torch/lib", "venv/torch/lib")]
    [InlineData("venv/torch/lib", "venv/torch")]
    [InlineData("venv/torch/lib", "venv")]
    [InlineData("libtorch/lib", "libtorch")]
    public void It_is_found_in_the_folder_that_was_named_or_below(string place, string named)
    {
        Place(place);
        var found = LibTorch.Find(Temp[named], Temp["none"]);
        Assert.Equal(Temp[place], found.Directory);
        Assert.Null(found.Version);
        Assert.False(found.HasCuda);
    }

    [Fact]
    public void It_is_found_in_the_module_if_no_other_is_named()
    {
        Place("module");
        File.WriteAllBytes(Temp[$"module/{LibTorch.FileName("torch_cuda")}"], []);
        Assert.True(LibTorch.Find(null, Temp["module"]).HasCuda);
        Assert.Equal(Temp["module"], LibTorch.Find(" ", Temp["module"]).Directory);
    }

    [Theory]
    [InlineData("version.py", "from typing import Optional\n__version__ = '2.10.0+cu128'\ndebug = False\n", "2.10.0+cu128")]
    [InlineData("build-version", "2.11.0+cu130\n", "2.11.0+cu130")]
    public void Its_version_is_read_from_the_files_beside_it(string file, string text, string version)
    {
        Place("torch/lib");
        File.WriteAllText(Temp[$"torch/{file}"], text);
        Assert.Equal(version, LibTorch.Find(Temp["torch/lib"], "").Version);
    }

    [Theory]
    [InlineData("2.9.1+cu126")]
    [InlineData("2.1.0")]
    [InlineData("2.100.0")]
    [InlineData("2.12.0")]
    [InlineData("3.2.10")]
    public void Other_versions_are_refused_by_name(string version)
    {
        Place("torch/lib");
        File.WriteAllText(Temp["torch/version.py"], $"__version__ = \"{version}\"\n");
        AssertUnavailable(() => LibTorch.Find(Temp["torch/lib"], ""), Temp["torch/lib"], version, "2.10");
    }

    [Fact]
    public void Where_there_is_none_the_error_says_how_to_get_one()
    {
        AssertUnavailable(() => LibTorch.Find(null, Temp["none"]), "no libtorch");
        AssertUnavailable(() => LibTorch.Find(Temp["wrong"], ""), LibTorch.Variable, Temp["wrong"]);
    }

    [Fact]
    public void A_gpu_that_is_not_there_is_an_error()
    {
        Errors.Expect(MergeError.DeviceUnavailable, () => new TorchDevices().Open(new DeviceRequest(DeviceKind.Cuda, 99)), "-Device cpu");
    }

    [Fact]
    public void A_needed_version_is_marked_as_weak_and_nothing_else_changes()
    {
        var path = Path.Combine(AppContext.BaseDirectory, "runtimes", "linux-x64", "native", "libLibTorchSharp.so");
        var before = File.ReadAllBytes(path);
        var after = before.ToArray();
        Assert.True(VersionTag.MarkWeak(after, VersionTag.Name));
        var changed = Assert.Single(Enumerable.Range(0, before.Length), i => before[i] != after[i]);
        Assert.Equal((0, 2), (before[changed], after[changed]));

        // vna_hash precedes the flags: the ELF hash of the name.
        Assert.Equal(Hash(VersionTag.Name), BitConverter.ToUInt32(before, changed - 4));
        Assert.False(VersionTag.MarkWeak(after, VersionTag.Name));
        Assert.False(VersionTag.MarkWeak(after, "GLIBCXX_9.9"));
        Assert.Throws<InvalidDataException>(() => VersionTag.MarkWeak(Encoding.ASCII.GetBytes(new string('x', 100)), VersionTag.Name));
    }

    private static uint Hash(string name) => name.Aggregate(0u, (hash, c) =>
    {
        hash = (hash << 4) + c;
        var high = hash & 0xF0000000;
        return (hash ^ (high >> 24)) & ~high;
    });

    private void Place(string directory)
    {
        Directory.CreateDirectory(Temp[directory]);
        File.WriteAllBytes(Temp[$"{directory}/{LibTorch.FileName("torch_cpu")}"], []);
    }

    private static void AssertUnavailable(Action find, params string[] names)
    {
        var error = Errors.Expect(MergeError.DeviceUnavailable, () => find());
        Assert.All(names, name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
        Assert.All(["UNSLOTHMERGE_LIBTORCH", "-p:Torch=cuda-linux", "-Device cpu"],
            way => Assert.Contains(way, error.Advice, StringComparison.Ordinal));
    }
}
