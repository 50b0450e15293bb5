namespace UnslothMerge.Hub.Publishing;

/// <summary>A directory for shards on their way to the Hub. Disposed of, it is gone.</summary>
internal sealed class Scratch : IDisposable
{
    private readonly string _parent;

    /// <summary>Prepares one at a temporary location; it is made when it is used. Its last name is the repository's.</summary>
    public Scratch(string location, string repository)
    {
        _parent = System.IO.Path.Combine(location, $".unslothmerge-{Guid.NewGuid().ToString("N")[..8]}");
        Path = System.IO.Path.Combine(_parent, repository.Split('/')[^1]);
    }

    /// <summary>The directory.</summary>
    public string Path { get; }

    public void Dispose()
    {
        try
        {
            if (Directory.Exists(_parent))
            {
                Directory.Delete(_parent, recursive: true);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Failing to tidy up must not hide why the save failed.
        }
    }
}
