using UnslothMerge.Torch.Native;

namespace UnslothMerge.Tests.Devices;

/// <summary>What can be known of a libtorch before it is loaded. The files here are empty: nothing loads them.</summary>
public sealed class LibTorchTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("venv/torch/lib", "venv/torch/lib")]
    [InlineData("venv/torch/lib", "venv/torch")]
    [InlineData("venv/torch/lib", "venv")]
    [InlineData("libtorch/lib", "libtorch")]
    public void It_is_found_in_the_folder_that_was_named_or_below(string place, string named)
    {
        Place(place);
        var found = LibTorch.Find(_directory[named], _directory["none"]);
        Assert.Equal(_directory[place], found.Directory);
        Assert.Null(found.Version);
        Assert.False(found.HasCuda);
    }

    [Fact]
    public void It_is_found_in_the_module_if_no_other_is_named()
    {
        Place("module");
        File.WriteAllBytes(_directory[$"module/{LibTorch.FileName("torch_cuda")}"], []);
        Assert.True(LibTorch.Find(null, _directory["module"]).HasCuda);
        Assert.Equal(_directory["module"], LibTorch.Find(" ", _directory["module"]).Directory);
    }

    [Theory]
    [InlineData("version.py", "from typing import Optional\n__version__ = '2.10.0+cu128'\ndebug = False\n", "2.10.0+cu128")]
    [InlineData("build-version", "2.11.0+cu130\n", "2.11.0+cu130")]
    public void Its_version_is_read_from_the_files_beside_it(string file, string text, string version)
    {
        Place("torch/lib");
        File.WriteAllText(_directory[$"torch/{file}"], text);
        Assert.Equal(version, LibTorch.Find(_directory["torch/lib"], "").Version);
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
        File.WriteAllText(_directory["torch/version.py"], $"__version__ = \"{version}\"\n");
        AssertUnavailable(() => LibTorch.Find(_directory["torch/lib"], ""), _directory["torch/lib"], version, "2.10");
    }

    [Fact]
    public void Where_there_is_none_the_error_says_how_to_get_one()
    {
        AssertUnavailable(() => LibTorch.Find(null, _directory["none"]), "no libtorch");
        AssertUnavailable(() => LibTorch.Find(_directory["wrong"], ""), LibTorch.Variable, _directory["wrong"]);
    }

    [Fact]
    public void A_gpu_that_is_not_there_is_an_error()
    {
        var error = Assert.Throws<MergeException>(() => new TorchDevices().Open(new DeviceRequest(DeviceKind.Cuda, 99)));
        Assert.Equal(MergeError.DeviceUnavailable, error.Error);
        Assert.Contains("-Device cpu", error.Advice, StringComparison.Ordinal);
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
        Directory.CreateDirectory(_directory[directory]);
        File.WriteAllBytes(_directory[$"{directory}/{LibTorch.FileName("torch_cpu")}"], []);
    }

    private static void AssertUnavailable(Action find, params string[] names)
    {
        var error = Assert.Throws<MergeException>(find);
        Assert.Equal(MergeError.DeviceUnavailable, error.Error);
        Assert.All(names, name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
        Assert.All(["UNSLOTHMERGE_LIBTORCH", "-p:Torch=cuda-linux", "-Device cpu"],
            way => Assert.Contains(way, error.Advice, StringComparison.Ordinal));
    }
}
