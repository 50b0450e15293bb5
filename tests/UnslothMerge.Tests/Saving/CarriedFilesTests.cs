using System.Runtime.Versioning;

namespace UnslothMerge.Tests.Saving;

public sealed class CarriedFilesTests : FileTests
{
    [Theory]
    [InlineData("secret", false)]
    [InlineData("model/sub/LICENSE.txt", true)]
    public void A_link_is_followed_within_the_model_only(string target, bool isFollowed)
    {
        Directory.CreateDirectory(Temp["model/sub"]);
        File.WriteAllText(Temp[target], "text");
        File.CreateSymbolicLink(Temp["model/LICENSE"], Temp[target]);
        AssertCopied(Temp["model"], Temp["out"], isFollowed ? null : Temp["secret"]);
    }

    [Fact]
    public void A_link_in_a_snapshot_leads_to_the_caches_blobs()
    {
        var snapshot = Directory.CreateDirectory(Temp["models--org--name/snapshots/1"]).FullName;
        Directory.CreateDirectory(Temp["models--org--name/blobs"]);
        File.WriteAllText(Temp["models--org--name/blobs/ab"], "text");
        File.CreateSymbolicLink(Path.Combine(snapshot, "LICENSE"), "../../blobs/ab");
        AssertCopied(snapshot, Temp["out"], null);
    }

    [Fact]
    public void A_copy_has_a_limit()
    {
        Directory.CreateDirectory(Temp["model"]);
        using (var file = File.OpenHandle(Temp["model/LICENSE"], FileMode.CreateNew, FileAccess.Write))
        {
            RandomAccess.SetLength(file, Limits.CopiedBytes + 1);
        }

        Errors.Expect(MergeError.InvalidModel, () => CarriedFiles.RequireReadable(CarriedFiles.ForModel(Temp["model"], [])),
            "at most 1073741824 are copied");
    }

    [Fact]
    [UnsupportedOSPlatform("windows")]
    public void A_copy_has_the_mode_of_a_new_file()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Files have no mode here.");
        Directory.CreateDirectory(Temp["model"]);
        File.WriteAllText(Temp["new"], "");
        File.WriteAllText(Temp["model/LICENSE"], "text");
        File.SetUnixFileMode(Temp["model/LICENSE"], (UnixFileMode)0xFFF);
        AssertCopied(Temp["model"], Temp["out"], null);
        Assert.Equal(File.GetUnixFileMode(Temp["new"]), File.GetUnixFileMode(Temp["out/LICENSE"]));
    }

    private void AssertCopied(string model, string output, string? refusedFor)
    {
        var files = CarriedFiles.ForModel(model, []);
        Assert.Contains("LICENSE", files.Keys);
        if (refusedFor is not null)
        {
            Errors.Expect(MergeError.InvalidModel, () => CarriedFiles.RequireReadable(files), "LICENSE", refusedFor);
            return;
        }

        CarriedFiles.RequireReadable(files);
        CarriedFiles.Copy(files, output, SystemDisk.Instance);
        Assert.Equal("text", File.ReadAllText(Path.Combine(output, "LICENSE")));
    }
}
