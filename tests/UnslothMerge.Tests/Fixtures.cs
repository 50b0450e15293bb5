namespace UnslothMerge.Tests;

/// <summary>Where the fixtures are, and places to write to.</summary>
internal static class Fixtures
{
    /// <summary>The root of the checkout.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>tests/Fixtures.</summary>
    public static string Path { get; } = System.IO.Path.Combine(Root, "tests", "Fixtures");

    public static string Base(string name) => System.IO.Path.Combine(Path, "bases", name);

    public static string Adapter(string @case, string name = "adapter") => System.IO.Path.Combine(Path, "cases", @case, name);

    private static string FindRoot()
    {
        var directory = AppContext.BaseDirectory;
        while (!File.Exists(System.IO.Path.Combine(directory, "UnslothMerge.psd1")))
        {
            directory = System.IO.Path.GetDirectoryName(directory)
                ?? throw new DirectoryNotFoundException("UnslothMerge.psd1 was not found above the tests.");
        }

        return directory;
    }
}

/// <summary>A directory that is gone when it is disposed of, among other temporary ones if no parent is given.</summary>
internal sealed class TemporaryDirectory(string? parent = null) : IDisposable
{
    public string Path { get; } = Directory.CreateDirectory(
        System.IO.Path.Combine(parent ?? System.IO.Path.GetTempPath(), $"unslothmerge-{Guid.NewGuid():N}")).FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

/// <summary>Tests that write files, each in a directory of its own.</summary>
public abstract class FileTests : IDisposable
{
    private protected TemporaryDirectory Temp { get; } = new();

    public virtual void Dispose()
    {
        Temp.Dispose();
        GC.SuppressFinalize(this);
    }
}
