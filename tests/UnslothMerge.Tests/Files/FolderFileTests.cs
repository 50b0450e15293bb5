using UnslothMerge.Tests.Tokenizers;

namespace UnslothMerge.Tests.Files;

/// <summary>Links in the folders of models and adapters: within the folder they are followed, and no further.</summary>
public sealed class FolderFileTests : FileTests
{
    private static readonly TinyTensor[] Tensors = [TinyTensor.Random("a.weight", [4, 4], 1), TinyTensor.Random("b.weight", [4, 4], 2)];

    public static TheoryData<string> ReadFiles =>
    [
        "base/config.json", "base/model-00001-of-00002.safetensors", "base/model.safetensors.index.json", "base/tokenizer.json",
        "base/tokenizer_config.json", "base/generation_config.json", "base/LICENSE", "base/modules.json", "base/1_Pooling/config.json",
        "base/chat_template.jinja", "base/merge.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
    ];

    [Theory, MemberData(nameof(ReadFiles))]
    public void A_file_that_leads_out_of_its_folder_is_refused_and_within_it_read(string file)
    {
        Write();
        Save("1/model");
        var name = Path.GetFileName(file);
        Directory.CreateDirectory(Temp["elsewhere"]);
        File.Copy(Temp[file], Temp[$"elsewhere/{name}"]);

        // Where no reader looks for it.
        var kept = Temp[$"{file.Split('/')[0]}/kept/{name}.kept"];
        Directory.CreateDirectory(Path.GetDirectoryName(kept)!);
        File.Move(Temp[file], kept);
        File.CreateSymbolicLink(Temp[file], kept);
        Save("2/model");
        Assert.Equal(TinyModel.Fingerprint(Temp["1/model"]), TinyModel.Fingerprint(Temp["2/model"]));

        File.Delete(Temp[file]);
        File.CreateSymbolicLink(Temp[file], Temp[$"elsewhere/{name}"]);
        Errors.Expect(() => Save("out"), name, Temp[$"elsewhere/{name}"], "outside of its folder");
        Assert.False(Directory.Exists(Temp["out"]));
    }

    [Fact]
    public void A_folder_may_be_a_link_itself()
    {
        Write();
        Save("1/model");
        foreach (var folder in new[] { "base", "adapter" })
        {
            Directory.Move(Temp[folder], Temp[$"real-{folder}"]);
            Directory.CreateSymbolicLink(Temp[folder], Temp[$"real-{folder}"]);
        }

        Save("2/model");
        Assert.Equal(TinyModel.Fingerprint(Temp["1/model"]), TinyModel.Fingerprint(Temp["2/model"]));
    }

    [Theory]
    [InlineData("models--org--name", false)]
    [InlineData("models--org--name", true)]
    [InlineData("renamed", true)]
    public void Links_of_a_snapshot_lead_to_the_blobs_of_its_cache(string repository, bool byLink)
    {
        Write();
        Save("1/model");
        var snapshot = Path.Combine(Temp[repository], "snapshots", "1");
        var blobs = Directory.CreateDirectory(Path.Combine(Temp[repository], "blobs")).FullName;
        Directory.CreateDirectory(Path.GetDirectoryName(snapshot)!);
        Directory.Move(Temp["base"], snapshot);
        foreach (var file in Directory.EnumerateFiles(snapshot).ToList())
        {
            File.Move(file, Path.Combine(blobs, Path.GetFileName(file)));
            File.CreateSymbolicLink(file, $"../../blobs/{Path.GetFileName(file)}");
        }

        if (repository == "renamed")
        {
            Directory.CreateSymbolicLink(Temp["models--org--name"], Temp[repository]);
            snapshot = Path.Combine(Temp["models--org--name"], "snapshots", "1");
        }
        else if (byLink)
        {
            Directory.CreateSymbolicLink(Temp["base"], snapshot);
            snapshot = Temp["base"];
        }

        Assert.Equal(
            TinyModel.Stored(Temp["1/model"]), TinyModel.Stored(Save("2/model", snapshot)));
        File.Move(Path.Combine(blobs, "model-00001-of-00002.safetensors"), Temp["elsewhere"]);
        File.CreateSymbolicLink(Path.Combine(blobs, "model-00001-of-00002.safetensors"), Temp["elsewhere"]);
        Errors.Expect(() => Save("out", snapshot), Temp["elsewhere"], "outside of its folder");
    }

    [Fact]
    public void A_card_that_leads_out_of_its_folder_is_not_taken_over()
    {
        Write();
        File.WriteAllText(Temp["secret"], "---\nlicense: secret\n---\n");
        File.Delete(Temp["base/README.md"]);
        File.CreateSymbolicLink(Temp["base/README.md"], Temp["secret"]);
        Save("out");
        Assert.DoesNotContain("secret", File.ReadAllText(Temp["out/README.md"]), StringComparison.Ordinal);
    }

    private void Write()
    {
        new TinyModel(Tensors).WithLora(2, "a").Write(Temp);
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(Temp["base"]), TensorType.F32, shard: 100), Temp["two"]);
        Directory.Delete(Temp["base"], recursive: true);
        Directory.Move(Temp["two"], Temp["base"]);
        TinyTokenizer.Fast(Temp["base"]);
        File.WriteAllText(Temp["base/generation_config.json"], "{}");
        File.WriteAllText(Temp["base/chat_template.jinja"], "{{ messages }}");
        File.WriteAllText(Temp["base/LICENSE"], "MIT");
        File.WriteAllText(Temp["base/modules.json"], """[{"path": "1_Pooling"}]""");
        Directory.CreateDirectory(Temp["base/1_Pooling"]);
        File.WriteAllText(Temp["base/1_Pooling/config.json"], "{}");
    }

    private string Save(string output, string? @base = null)
    {
        TinyModel.Save(TinyModel.WritePlan(TinyModel.Plan(@base ?? Temp["base"], Temp["adapter"])), Temp[output]);
        return Temp[output];
    }
}
