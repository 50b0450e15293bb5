using System.Security.Cryptography;

namespace UnslothMerge.Tests.Saving;

public sealed class KnownHashesTests : FileTests
{
    private readonly List<string> _notes = [];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_file_of_the_cache_is_what_its_name_says_or_nothing_is_saved(bool damaged)
    {
        var snapshot = Temp["models--org--name/snapshots/1234"];
        var blobs = Directory.CreateDirectory(Temp["models--org--name/blobs"]).FullName;
        TinyModel.Base(snapshot, TinyTensor.Random("w.weight", [64, 64], 1));
        var file = Path.Combine(snapshot, "model.safetensors");
        var bytes = File.ReadAllBytes(file);
        var blob = Path.Combine(blobs, Convert.ToHexStringLower(SHA256.HashData(bytes)));
        bytes[^1] ^= (byte)(damaged ? 1 : 0);
        File.WriteAllBytes(blob, bytes);
        File.Delete(file);
        File.CreateSymbolicLink(file, blob);

        var plan = TinyModel.WritePlan(TinyModel.Plan(snapshot));
        if (damaged)
        {
            Errors.Expect(MergeError.InvalidModel,
                () => TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out/model"], verify: true), "is damaged", "model.safetensors",
                $"Delete '{blob}'");
            Assert.False(Directory.Exists(Temp["out"]));
        }

        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out/model"], note: _notes.Add, verify: !damaged);
        Assert.Empty(_notes);
    }

    /// <summary>What is small, and adapters, are compared by every save.</summary>
    [Theory]
    [InlineData("base", "config.json")]
    [InlineData("base", "generation_config.json")]
    [InlineData("adapter", "adapter_config.json")]
    [InlineData("adapter", "adapter_model.safetensors")]
    public void Small_files_and_adapters_of_the_cache_are_always_compared(string which, string name)
    {
        foreach (var (repository, source) in new[]
        {
            ("base", Fixtures.Base("llama-bf16")), ("adapter", Fixtures.Adapter("lora-all-linear")),
        })
        {
            Cache(repository, source);
        }

        var (@base, adapter) = (Temp["models--org--base/snapshots/1"], Temp["models--org--adapter/snapshots/1"]);
        WritePlan Plan() => TinyModel.WritePlan(TinyModel.Plan(@base, adapter));
        TinyModel.SaveOn(SystemDisk.Instance, Plan(), Temp["right"]);

        // A space where one may stand, so that the file can still be read.
        var blob = new FileInfo(Path.Combine(which == "base" ? @base : adapter, name)).ResolveLinkTarget(returnFinalTarget: true)!.FullName;
        var bytes = File.ReadAllBytes(blob);
        bytes[^1] ^= 1;
        File.WriteAllBytes(blob, name.EndsWith(".json", StringComparison.Ordinal) ? [.. File.ReadAllBytes(blob), (byte)' '] : bytes);
        Errors.Expect(MergeError.InvalidModel, () => TinyModel.SaveOn(SystemDisk.Instance, Plan(), Temp["out"]), "is damaged", name,
            $"Delete '{blob}'");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void That_no_hash_is_known_is_said()
    {
        var plan = TinyModel.WritePlan(TinyModel.Plan(TinyModel.Base(Temp["base"], TinyTensor.Random("w.weight", [4, 4], 1))));
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out"], note: _notes.Add, verify: true);
        Assert.Contains("compares nothing", Assert.Single(_notes), StringComparison.Ordinal);
    }

    // Large files by their SHA-256, the others by git's SHA-1, as huggingface_hub stores them.
    private void Cache(string repository, string source)
    {
        var (snapshot, blobs) = (Temp[$"models--org--{repository}/snapshots/1"], Temp[$"models--org--{repository}/blobs"]);
        Directory.CreateDirectory(snapshot);
        Directory.CreateDirectory(blobs);
        foreach (var file in Directory.EnumerateFiles(source))
        {
            var bytes = File.ReadAllBytes(file);
            var name = file.EndsWith(".safetensors", StringComparison.Ordinal) ? Convert.ToHexStringLower(SHA256.HashData(bytes))
                : Hub.StandIn.HubFile.GitHash(bytes);
            File.WriteAllBytes(Path.Combine(blobs, name), bytes);
            File.CreateSymbolicLink(Path.Combine(snapshot, Path.GetFileName(file)), Path.Combine("..", "..", "blobs", name));
        }
    }
}
