namespace UnslothMerge.Tests.Pester;

/// <summary>
/// The folder $TestDrive of one file. As in Pester a block finds in it what the blocks around it have put there,
/// and what it adds is removed when it ends.
/// </summary>
internal sealed class TestDrive : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("UnslothMerge-");

    public string Path => _folder.FullName;

    public HashSet<string> Snapshot() => [.. Below(_folder).Select(entry => entry.FullName)];

    public void Restore(HashSet<string> snapshot)
    {
        // The other way round in the alphabet, what is in a folder comes before the folder.
        foreach (var added in Snapshot().Except(snapshot).OrderDescending(StringComparer.Ordinal))
        {
            // A link to a folder is removed as a folder, and not followed.
            if (Directory.Exists(added))
            {
                Directory.Delete(added);
            }
            else
            {
                File.Delete(added);
            }
        }
    }

    public void Dispose() => _folder.Delete(recursive: true);

    private static IEnumerable<FileSystemInfo> Below(DirectoryInfo folder) =>
        folder.EnumerateFileSystemInfos().SelectMany(entry =>
            entry is DirectoryInfo { LinkTarget: null } inner ? Below(inner).Prepend(entry) : [entry]);
}
