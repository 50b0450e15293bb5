using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.Fetching;
using UnslothMerge.Tests.Saving.Crashes;

namespace UnslothMerge.Tests.Hub;

/// <summary>Every call of the disk fails, during a download and a publication: what is there afterwards is whole, and the next one goes
/// on.</summary>
public sealed class DiskFaultTests : FetchTests
{
    private const string Id = "org/out";
    private const int SegmentBytes = 64 * 1024;

    // EACCES is no IOException.
    private static readonly Func<Exception>[] Faults =
    [
        () => new IOException("no space", 28), () => new IOException("input/output error", 5), () => new UnauthorizedAccessException("no"),
    ];

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_download_is_whole_or_an_error_and_goes_on(bool links)
    {
        var content = new byte[(2 * SegmentBytes) + 100];
        new Random(1).NextBytes(content);
        Server.Add(Base, ("model.safetensors", content), ("config.json", "{}"u8.ToArray()));
        Each((disk, forget) =>
        {
            if (forget && Directory.Exists(Cache))
            {
                Directory.Delete(Cache, recursive: true);
            }

            using var client = Client();
            var model = Find(client, Base);
            Downloader.Run(client, model.Cache with { Disk = disk, Links = links }, model.Commit, model.All!, null, Stop, SegmentBytes);
        }, isDone =>
        {
            foreach (var file in Server.Repositories[Base].Head.Files.Keys)
            {
                var path = Path.Combine(Snapshot(Base), file);
                Assert.True(File.Exists(path) || !isDone, $"{file} is missing.");
                Assert.True(!File.Exists(path) || File.ReadAllBytes(path).AsSpan().SequenceEqual(Server.Read(Base, file)), file);
            }
        });
    }

    [Fact]
    public void A_publication_is_whole_or_an_error_and_goes_on()
    {
        Server.Objects.PartSize = 3000;
        var model = TinyModel.Base(Temp["model"], TinyTensor.Random("w", [40, 33], 1));
        Each((disk, forget) =>
        {
            if (forget)
            {
                Server.Add(Id, ("pytorch_model.bin", [1]));
                Server.Objects.Objects.Clear();
                Server.Objects.Uploads.Clear();
                if (Directory.Exists(Temp["home"]))
                {
                    Directory.Delete(Temp["home"], recursive: true);
                }
            }

            using var client = Client();
            var files = PublishedFiles.Open(model, null, [], [], disk);
            var publisher = new Publisher(client, new PublishTarget(Id), disk);
            var plan = publisher.Plan([.. files.Select(f => f.Name)], [.. files.Where(f => f.Name == "README.md")], null, Stop);
            publisher.Run(plan, files, "Upload", null, Stop);
        }, isDone =>
        {
            var isThere = Server.Repositories[Id].Head.Files.ContainsKey("model.safetensors");
            Assert.True(isThere || !isDone, "Nothing was published.");
            Assert.All(isThere ? Directory.EnumerateFiles(model) : [],
                f => Assert.Equal(File.ReadAllBytes(f), Server.Read(Id, Path.GetFileName(f))));
        });
    }

    // Each call fails once, or with all that follow it; then nothing fails any more.
    private static void Each(Action<IDisk, bool> work, Action<bool> check)
    {
        foreach (var forEver in new[] { false, true })
        {
            for (var call = 1; ; call++)
            {
                var error = Faults[call % Faults.Length];
                var disk = new FailingDisk(call, _ => error(), forEver);
                var failure = Record.Exception(() => work(disk, true));
                if (disk.Failed.Count == 0)
                {
                    Assert.Null(failure);
                    Assert.True(call > 10, $"There were {call} calls.");
                    break;
                }

                Assert.True(failure is MergeException or null, $"call {call}, {disk.Failed.First()}: {failure}");
                check(failure is null);
                work(new QuickDisk(), false);
                check(true);
            }
        }
    }
}
