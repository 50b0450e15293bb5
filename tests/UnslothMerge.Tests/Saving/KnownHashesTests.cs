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

    [Fact]
    public void That_no_hash_is_known_is_said()
    {
        var plan = TinyModel.WritePlan(TinyModel.Plan(TinyModel.Base(Temp["base"], TinyTensor.Random("w.weight", [4, 4], 1))));
        TinyModel.SaveOn(SystemDisk.Instance, plan, Temp["out"], note: _notes.Add, verify: true);
        Assert.Contains("compares nothing", Assert.Single(_notes), StringComparison.Ordinal);
    }
}
