using UnslothMerge.Hub.Cache;

namespace UnslothMerge.Tests.Hub.Fetching;

/// <summary>The layout of huggingface_hub's cache, written and read.</summary>
public sealed class CachedRepositoryTests : FileTests
{
    private const string Commit = "0123456789abcdef0123456789abcdef01234567";
    private static readonly string Hash = new('a', 64);

    [Fact]
    public void A_file_is_a_link_to_its_content()
    {
        var cache = new CachedRepository(Temp.Path, "org/name");
        var file = new RepositoryFile("sub/dir/x.bin", 3, new string('1', 40), Hash);
        Assert.False(cache.TryLink(Commit, file));
        File.WriteAllText(cache.Partial(file.ETag), "abc");
        cache.Take(Commit, file);

        var pointer = new FileInfo(Temp[$"models--org--name/snapshots/{Commit}/sub/dir/x.bin"]);
        Assert.Equal($"../../../../blobs/{Hash}", pointer.LinkTarget);
        Assert.Equal("abc", File.ReadAllText(pointer.FullName));
        Assert.True(cache.Has(Commit, file));
        Assert.True(cache.TryLink("another", file with { Path = "y" }));
        Assert.Equal($"../../blobs/{Hash}", new FileInfo(cache.Pointer("another", "y")).LinkTarget);
        Assert.Empty(Directory.EnumerateFiles(Temp["models--org--name/partial"]));
    }

    /// <summary>As huggingface_hub does it on Windows: a new content is moved, a known one copied.</summary>
    [Fact]
    public void Without_links_a_file_is_the_content_itself()
    {
        var cache = new CachedRepository(Temp.Path, "org/name", Links: false);
        var file = new RepositoryFile("x", 3, new string('1', 40));
        File.WriteAllText(cache.Partial(file.ETag), "abc");
        cache.Take(Commit, file);
        Assert.Null(new FileInfo(cache.Pointer(Commit, "x")).LinkTarget);
        Assert.False(File.Exists(cache.Blob(file.ETag)));

        File.WriteAllText(cache.Blob(file.ETag), "abc");
        Assert.True(cache.TryLink("another", file));
        Assert.Null(new FileInfo(cache.Pointer("another", "x")).LinkTarget);
        Assert.True(File.Exists(cache.Blob(file.ETag)));
    }

    [Fact]
    public void A_content_of_another_length_is_none()
    {
        var cache = new CachedRepository(Temp.Path, "org/name");
        var file = new RepositoryFile("x", 3, new string('1', 40));
        Directory.CreateDirectory(Path.GetDirectoryName(cache.Blob(file.ETag))!);
        File.WriteAllText(cache.Blob(file.ETag), "ab");
        Assert.False(cache.TryLink(Commit, file));
    }

    [Fact]
    public void Refs_have_folders_and_no_newline()
    {
        var cache = new CachedRepository(Temp.Path, "org/name");
        Assert.Null(cache.ReadRef("refs/pr/1"));
        cache.WriteRef("refs/pr/1", Commit);
        Assert.Equal(Commit, File.ReadAllText(Temp["models--org--name/refs/refs/pr/1"]));
        Assert.Equal(Commit, cache.ReadRef("refs/pr/1"));
        Assert.Null(cache.ReadRef("../../x"));
    }

    [Theory]
    [InlineData("../x")]
    [InlineData("a/../../x")]
    [InlineData("/x")]
    [InlineData("a//x")]
    [InlineData("")]
    public void Paths_that_leave_their_folder_are_not_safe(string path) =>
        Assert.False(new RepositoryFile(path, 1, new string('1', 40)).IsSafe);

    [Fact]
    public void A_listing_comes_back_as_it_was() => Gen.Select(
        Gen.String[Gen.Char['a', 'z'], 1, 8].Array[1, 3].Select(p => string.Join('/', p)),
        Gen.Long[0, long.MaxValue], Gen.Bool, Gen.Bool)
        .List[0, 20].Select(list => list.DistinctBy(e => e.Item1).ToList())
        .Sample(entries =>
        {
            var files = entries.Select(e => new RepositoryFile(
                e.Item1, e.Item2, new string('1', 40), e.Item3 ? Hash : null, e.Item4 ? new string('b', 64) : null)).ToList();
            var text = RepositoryListing.Text(files);
            Assert.Equal(files.OrderBy(f => f.Path, StringComparer.Ordinal), RepositoryListing.Parse(text));
        });

    /// <summary>What huggingface_hub 1.29 writes.</summary>
    [Fact]
    public void Listings_of_huggingface_hub_are_read()
    {
        var files = RepositoryListing.Parse($$$"""
            {
             "format_version": 1,
             "files": {
              "config.json": {
               "size": 519,
               "blob_id": "1111111111111111111111111111111111111111"
              },
              "model.safetensors": {
               "size": 1234,
               "blob_id": "2222222222222222222222222222222222222222",
               "lfs_sha256": "{{{Hash}}}",
               "lfs_size": 1234,
               "xet_hash": "{{{Hash}}}"
              }
             }
            }
            """);
        Assert.Equal(["config.json", "model.safetensors"], files!.Select(f => f.Path));
        Assert.Equal([new string('1', 40), Hash], files!.Select(f => f.ETag));
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[1]")]
    [InlineData("{")]
    [InlineData("""{"format_version":2,"files":{}}""")]
    [InlineData("""{"format_version":1,"files":{"x":{"size":1}}}""")]
    [InlineData("""{"format_version":1,"files":{"../x":{"size":1,"blob_id":"1111111111111111111111111111111111111111"}}}""")]
    [InlineData("""{"format_version":1,"files":{"x":{"size":1,"blob_id":"../1"}}}""")]
    public void Other_listings_are_none(string json) => Assert.Null(RepositoryListing.Parse(json));

    [Fact]
    public void A_lock_that_is_held_is_waited_for()
    {
        var cache = new CachedRepository(Temp.Path, "org/name");
        using var stop = new CancellationTokenSource();
        var held = cache.Lock("x", TestContext.Current.CancellationToken);
        var other = Task.Run(() => cache.Lock("x", stop.Token), TestContext.Current.CancellationToken);
        stop.CancelAfter(TimeSpan.FromMilliseconds(150));
        Assert.Throws<OperationCanceledException>(() => other.GetAwaiter().GetResult());
        held.Dispose();
        cache.Lock("x", TestContext.Current.CancellationToken).Dispose();
        Assert.True(File.Exists(Temp[".locks/models--org--name/x.lock"]));
    }
}
