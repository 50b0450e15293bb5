using System.ComponentModel;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.Fetching;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>The Hub's official Python client on the other side: it reads what was published, what it uploads is fetched, and either uses a
/// cache that the other has filled.</summary>
public sealed class PythonClientTests : FetchTests
{
    private const string Script = """
        import sys
        from huggingface_hub import create_repo, snapshot_download, upload_folder
        what, repo, *more = sys.argv[1:]
        if what == "download":
            print(snapshot_download(repo, revision=more[0]))
        else:
            create_repo(repo)
            upload_folder(repo_id=repo, folder_path=more[0])
        """;

    [Fact]
    public void It_reads_what_was_published_and_publishes_what_is_fetched()
    {
        var model = Fixtures.Base("llama-bf16");
        Server.Objects.PartSize = 5000;
        var files = PublishedFiles.Open(model, null, [], []);
        using var client = Client();
        var publisher = new Publisher(client, new PublishTarget("org/out"));
        publisher.Run(publisher.Plan([.. files.Select(f => f.Name)], [.. files.Take(1)], null, Stop), files, "Upload", null, Stop);
        var read = Python("download", "org/out", "main");
        Assert.All(files, f => Assert.Equal(f.ReadAll(), File.ReadAllBytes(Path.Combine(read, f.Name))));

        // What it uploads is not there yet.
        Server.Objects.HideFromBatch.UnionWith(Server.Objects.Objects.Keys);
        Python("upload", Base, model);
        Whole(client, Base);
        Assert.All(files, f => Assert.Equal(f.ReadAll(), File.ReadAllBytes(Path.Combine(Snapshot(Base), f.Name))));
    }

    /// <summary>A commit says all: nothing is asked for that is there.</summary>
    [Fact]
    public void Each_uses_what_the_other_has_cached_without_a_request()
    {
        foreach (var id in new[] { Base, Adapter })
        {
            Publish(id, Fixtures.Base("llama-bf16"), "sub/");
            Server.Commit(Server.Repositories[id], ("model.safetensors", [.. new byte[3000]]));
        }

        using var client = Client();
        Python("download", Base, Server.Repositories[Base].Head.Id);
        Whole(client, $"{Adapter}@{Server.Repositories[Adapter].Head.Id}");
        Server.ForgetLog();
        Whole(client, $"{Base}@{Server.Repositories[Base].Head.Id}");
        Assert.Equal(Snapshot(Adapter), Python("download", Adapter, Server.Repositories[Adapter].Head.Id));
        Assert.Empty(Server.Log);
        Assert.All([Base, Adapter], id => Assert.All(Server.Repositories[id].Head.Files.Keys, f =>
            Assert.Equal(Server.Read(id, f), File.ReadAllBytes(Path.Combine(Snapshot(id), f)))));
    }

    private static void Whole(HubClient client, string name)
    {
        var model = Find(client, name);
        HubFetch.Open(model, HubUse.Whole, _ => true, null, Stop);
    }

    // Where there is none, the test is skipped by name.
    private string Python(params string[] arguments)
    {
        // It takes an empty variable for a path.
        (string, string)[] environment =
        [
            .. Server.Environment(Temp["home"]), ("HF_HUB_CACHE", Cache), ("HF_TOKEN_PATH", Temp["home/token"]),
            ("HF_HUB_DISABLE_XET", "1"),
        ];
        try
        {
            Assert.SkipUnless(PowerShellProcess.Start(["python3", "-c", "import huggingface_hub"], environment).ExitCode == 0,
                "python3 has no huggingface_hub.");
        }
        catch (Win32Exception)
        {
            Assert.Skip("There is no python3 with huggingface_hub.");
        }

        var (exit, output, errors) = PowerShellProcess.Start(["python3", "-c", Script, .. arguments], environment);
        Assert.True(exit == 0, $"{output}\n{errors}");
        return output.Trim();
    }
}
