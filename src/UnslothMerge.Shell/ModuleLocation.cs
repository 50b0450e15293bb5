namespace UnslothMerge.Shell;

/// <summary>Finds the module manifest that the shell imports.</summary>
public static class ModuleLocation
{
    /// <summary>Names a folder with the module, or its manifest; it wins over the search.</summary>
    public const string Variable = "UNSLOTHMERGE_MODULE";

    private const string Manifest = "UnslothMerge.psd1";

    /// <summary>
    /// The full path of the manifest: where <see cref="Variable"/> says, else beside the executable
    /// (or in a folder UnslothMerge beside it), else in the nearest folder above, as in a checkout.
    /// Null when there is none.
    /// </summary>
    public static string? Find()
    {
        // What the variable names is not checked: a wrong one should fail loudly in Import-Module.
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named)
        {
            var path = Path.GetFullPath(named);
            return Directory.Exists(path) ? Path.Combine(path, Manifest) : path;
        }

        var beside = Path.Combine(AppContext.BaseDirectory, "UnslothMerge", Manifest);
        if (File.Exists(beside))
        {
            return beside;
        }

        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            var candidate = Path.Combine(folder.FullName, Manifest);
            if (File.Exists(candidate))
            {
                return candidate;
            }
        }

        return null;
    }
}
