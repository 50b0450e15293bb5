using UnslothMerge.Hub.Cache;
using UnslothMerge.Hub.Fetching;
using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub.Fetching;

/// <summary>Downloads that are disturbed: what is there in the end is right, or it is not there.</summary>
public sealed class DownloaderTests : FetchTests
{
    private const int SegmentBytes = 64 * 1024;

    [Fact]
    public void A_large_file_comes_in_several_ranges_at_once()
    {
        Server.Add(Base, ("model.safetensors", Bytes(10 * SegmentBytes + 7, 1)));
        using var client = Client();
        Download(client);
        Assert.Equal(11, Objects());
        Assert.Single(Server.Log, l => l.Contains("model.safetensors", StringComparison.Ordinal));
        RequireRight();
    }

    [Fact]
    public void Empty_files_and_equal_files_come_too()
    {
        Server.Add(Base, ("empty.json", []), ("a.bin", Bytes(9, 1)), ("b.bin", Bytes(9, 1)), ("sub/c.json", Bytes(9, 1)));
        using var client = Client();
        Download(client);
        RequireRight();

        // A large one and a small one, and .gitattributes: the second large one has the same content, and nothing is nobody's to send.
        Assert.Equal(3, Server.Log.Count(l => l.Contains("/resolve/", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("config.json")]
    public void A_flipped_bit_is_found_and_the_file_comes_again(string name)
    {
        Server.Add(Base, (name, Bytes(3 * SegmentBytes, 1)));
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", name == "config.json" ? "config.json?" : "/objects/") { At = 5 });
        using var client = Client();
        Download(client);
        RequireRight();
        Assert.Contains(client.TakeNotices(), n => n.IsWarning && n.Text.Contains(name, StringComparison.Ordinal));
    }

    [Fact]
    public void A_file_that_always_comes_damaged_is_refused_and_not_kept()
    {
        Server.Add(Base, ("model.safetensors", Bytes(1000, 1)));
        Server.Fail(new HubFault(FaultKind.FlippedBit, "GET", "/objects/", Times: 100) { At = 5 });
        using var client = Client();
        Errors.Expect(MergeError.HubUnavailable, () => Download(client), Base, "model.safetensors", "hash");
        Assert.False(File.Exists(Path.Combine(Snapshot(Base), "model.safetensors")));
        Assert.DoesNotContain(Server.Repositories[Base].Head.Files["model.safetensors"].Lfs, Blobs());
    }

    [Fact]
    public void A_range_that_breaks_off_goes_on_where_it_was()
    {
        Server.Add(Base, ("model.safetensors", Bytes(SegmentBytes, 1)));
        Server.Fail(new HubFault(FaultKind.Truncated, "GET", "/objects/") { At = 40_000 });
        Server.Fail(new HubFault(FaultKind.Reset, "GET", "/objects/", Skip: 1) { At = 20_000 });
        using var client = Client();
        Download(client);
        RequireRight();
        Assert.Equal(3, Objects());
    }

    [Fact]
    public void Expired_addresses_are_asked_for_again()
    {
        Server.Add(Base, ("model.safetensors", Bytes(4 * SegmentBytes, 1)));
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/objects/", Skip: 1) { Status = 403, Message = "Request has expired" });
        using var client = Client();
        Download(client);
        RequireRight();
        Assert.Equal(2, Server.Log.Count(l => l.Contains("model.safetensors", StringComparison.Ordinal)));
    }

    [Fact]
    public void Gated_files_are_not_asked_for_again()
    {
        var repository = Server.Add(Base, ("model.safetensors", Bytes(10, 1)));
        using var client = Client(token: null);
        var model = Find(client, Base);
        repository.IsGated = true;
        Errors.Expect(MergeError.HubAccessDenied, () => model.Download([model.FileAt("model.safetensors")!], null, Stop), Base,
            "hf auth login");
        Assert.Single(Server.Log, l => l.Contains("model.safetensors", StringComparison.Ordinal));
    }

    /// <summary>A stop is what a kill is, but for the bytes on their way.</summary>
    [Fact]
    public void A_download_that_was_stopped_goes_on()
    {
        Server.Add(Base, ("model.safetensors", Bytes(40 * SegmentBytes, 1)));
        using var client = Client();
        using var stop = new CancellationTokenSource();
        var model = Find(client, Base);
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/objects/", Skip: 20, Times: 1000) { Status = 400 });
        Assert.ThrowsAny<MergeException>(() => Download(client, model));
        var (asked, kept) = (Objects(), Kept());
        Assert.InRange(kept, 1, 40 * SegmentBytes - 1);
        Assert.DoesNotContain(Server.Repositories[Base].Head.Files["model.safetensors"].Lfs, Blobs());

        using var server = new HubServer();
        server.Add(Base, ("model.safetensors", Bytes(40 * SegmentBytes, 1)));
        using var second = new HubClient(server.Settings(Temp["home"]), clock: Clock);
        Download(second);
        RequireRight();
        Assert.InRange(server.Log.Count(l => l.Contains("/objects/", StringComparison.Ordinal)), 1, 40 - 20 + 8);
        Assert.Equal(0, Kept());
        Assert.True(asked > 0);
    }

    private void Download(HubClient client, HubModel? model = null)
    {
        model ??= Find(client, Base);
        Downloader.Run(client, model.Cache, model.Commit, model.All!, null, Stop, SegmentBytes);
    }

    private static byte[] Bytes(int count, int seed)
    {
        var bytes = new byte[count];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private int Objects() => Server.Log.Count(l => l.Contains("/objects/", StringComparison.Ordinal));

    private IEnumerable<string> Blobs() =>
        Directory.Exists(Path.Combine(Cache, "models--org--base", "blobs"))
            ? Directory.EnumerateFiles(Path.Combine(Cache, "models--org--base", "blobs")).Select(f => Path.GetFileName(f)) : [];

    private long Kept() => Directory.EnumerateFiles(Path.Combine(Cache, "models--org--base", "partial"), "*.progress")
        .Sum(f => MemoryMarshal.Cast<byte, int>(File.ReadAllBytes(f)).ToArray().Sum(i => (long)i));

    private void RequireRight(string id = Base) => Assert.All(Server.Repositories[id].Head.Files.Keys, f =>
        Assert.Equal(Server.Read(id, f), File.ReadAllBytes(Path.Combine(Snapshot(id), f))));
}
