namespace UnslothMerge.Hub.Cache;

/// <summary>A repository in the cache: <c>models--org--name</c> with refs, blobs, snapshots, listings, and what is known to be missing. As
/// huggingface_hub keeps it, so that either finds what the other has downloaded.</summary>
/// <param name="Root">The cache's folder.</param>
/// <param name="Id">The name on the Hub: <c>org/name</c>.</param>
/// <param name="Links">False where snapshots hold copies, not symbolic links.</param>
internal sealed record CachedRepository(string Root, string Id, bool Links = true)
{
    /// <summary>The file that tells backup tools to pass by.</summary>
    private const string TagName = "CACHEDIR.TAG";

    private const string PartialName = "partial";
    private const int MaxRefLength = 1024;

    /// <summary>What writes the cache.</summary>
    public IDisk Disk { get; init; } = SystemDisk.Instance;

    private string FolderName => HubCache.FolderOf(Id);

    /// <summary>The folder of the repository.</summary>
    public string Folder => Path.Combine(Root, FolderName);

    /// <summary>The directory of all commits'.</summary>
    public string Snapshots => Path.Combine(Folder, "snapshots");

    /// <summary>The directory of a commit's files, which may be incomplete, or not exist.</summary>
    public string Snapshot(string commit) => Path.Combine(Snapshots, commit);

    /// <summary>Where a file of a commit lies, or would lie.</summary>
    public string Pointer(string commit, string path) => Path.Combine(Snapshot(commit), Local(path));

    /// <summary>Where a content lies, or would lie.</summary>
    public string Blob(string etag) => Path.Combine(Folder, "blobs", etag);

    /// <summary>Where a content lies while it is downloaded. Not among the blobs, where a download of huggingface_hub cleans up.</summary>
    public string Partial(string etag) =>
        Path.Combine(Made(Path.Combine(Folder, PartialName)), etag);

    /// <summary>The error of a file that this disk does not take.</summary>
    public MergeException Failed(string file, Exception cause) => new(
        MergeError.DoesNotFit, $"'{file}' of '{Id}' cannot be written to the cache '{Root}': {cause.Message}", Root,
        "Free some space there, choose another cache with HF_HUB_CACHE, or use -Stream.", cause);

    /// <summary>Waits for the lock of a content.</summary>
    public IDisposable Lock(string etag, CancellationToken cancellation) =>
        CacheLock.Take(Path.Combine(Root, ".locks", FolderName, $"{etag}.lock"), cancellation);

    /// <summary>The commit that a branch or tag led to when it was last asked for; null if it never was.</summary>
    public string? ReadRef(string revision)
    {
        var path = Ref(revision);
        var commit = RepositoryFile.IsSafePath(revision) && File.Exists(path)
            ? Encoding.UTF8.GetString(RegularFile.ReadAllBytes(path, MaxRefLength)).Trim() : "";
        return commit.Length > 0 && !commit.Contains('/', StringComparison.Ordinal) && RepositoryFile.IsSafePath(commit) ? commit : null;
    }

    /// <summary>Remembers the commit of a branch or tag.</summary>
    public void WriteRef(string revision, string commit)
    {
        if (ReadRef(revision) != commit)
        {
            Replace(Ref(revision), commit);
        }
    }

    /// <summary>The files of a commit; null if they were never listed.</summary>
    public IReadOnlyList<RepositoryFile>? ReadListing(string commit)
    {
        var path = Listing(commit);
        return File.Exists(path) ? RepositoryListing.Parse(RegularFile.ReadText(path)) : null;
    }

    /// <summary>Remembers the files of a commit.</summary>
    public void WriteListing(string commit, IEnumerable<RepositoryFile> files) => Replace(Listing(commit), RepositoryListing.Text(files));

    /// <summary>True if a file of a commit is there, in the length that it should have.</summary>
    public bool Has(string commit, RepositoryFile file) => IsWhole(Pointer(commit, file.Path), file);

    /// <summary>Remembers that a commit has no such file.</summary>
    public void WriteMissing(string commit, string path)
    {
        var missing = Path.Combine(Folder, ".no_exist", commit, Local(path));
        Made(Path.GetDirectoryName(missing)!);
        using var file = Disk.OpenOrCreate(missing);
    }

    /// <summary>Lets a commit have a file whose content is in the cache already; false if it is not.</summary>
    public bool TryLink(string commit, RepositoryFile file)
    {
        if (Has(commit, file))
        {
            return true;
        }

        if (!IsWhole(Blob(file.ETag), file))
        {
            return false;
        }

        Link(commit, file, isNew: false);
        return true;
    }

    /// <summary>Takes a verified content from where it was downloaded to, and lets a commit have it.</summary>
    public void Take(string commit, RepositoryFile file)
    {
        Made(Path.GetDirectoryName(Blob(file.ETag))!);
        Disk.Move(Partial(file.ETag), Blob(file.ETag));
        Link(commit, file, isNew: true);
    }

    /// <summary>Marks the cache's folder for backup tools.</summary>
    public void Tag()
    {
        var tag = Path.Combine(Root, TagName);
        if (!File.Exists(tag))
        {
            Replace(tag, "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of the Hugging Face Hub: bford.info/cachedir\n");
        }
    }

    private string Ref(string revision) => Path.Combine(Folder, "refs", Local(revision));

    private string Listing(string commit) => Path.Combine(Folder, "trees", $"{commit}.json");

    private static string Local(string path) => path.Replace('/', Path.DirectorySeparatorChar);

    private static bool IsWhole(string path, RepositoryFile file) =>
        FileStatus.Of(path) is { Kind: FileKind.Regular } status && status.Length == file.Size;

    // The link is relative, so that the cache can be moved.
    private void Link(string commit, RepositoryFile file, bool isNew)
    {
        var (pointer, blob) = (Pointer(commit, file.Path), Blob(file.ETag));
        var folder = Made(Path.GetDirectoryName(pointer)!);
        Disk.DeleteFile(pointer);
        if (Links && TryLink(pointer, Path.GetRelativePath(folder, blob)))
        {
            return;
        }

        if (isNew)
        {
            Disk.Move(blob, pointer);
        }
        else
        {
            var temporary = Temporary();
            Disk.Copy(blob, temporary);
            Disk.Move(temporary, pointer);
        }
    }

    // Windows lets only some users make links, some file systems nobody. Another process may have made the same one.
    private static bool TryLink(string path, string target)
    {
        try
        {
            File.CreateSymbolicLink(path, target);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new FileInfo(path).LinkTarget == target;
        }
    }

    private void Replace(string path, string text)
    {
        Made(Path.GetDirectoryName(path)!);
        Disk.Replace(path, output => output.Write(Encoding.UTF8.GetBytes(text)), sync: false, Temporary());
    }

    private string Made(string directory)
    {
        Disk.CreateTree(directory);
        return directory;
    }

    // On the same file system, so that it can be renamed, and where nobody looks for what is finished.
    private string Temporary() => Partial($"{Guid.NewGuid():N}.tmp");
}
