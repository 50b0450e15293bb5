namespace UnslothMerge.Torch.Native;

/// <summary>A directory with the libraries of libtorch; the version is what the files beside it say, null if they say nothing.</summary>
internal sealed partial record LibTorch(string Directory, string? Version)
{
    /// <summary>The variable that names a directory with libtorch.</summary>
    public const string Variable = "UNSLOTHMERGE_LIBTORCH";

    /// <summary>The variable that permits other versions if it is 1, without any promise.</summary>
    public const string AnyVariable = "UNSLOTHMERGE_LIBTORCH_ANY";

    /// <summary>The version that TorchSharp's binary was built for: libtorch promises no compatibility between two of them.</summary>
    public const string Built = "2.10";

    /// <summary>The versions that pass the goldens with it.</summary>
    public const string Supported = $"{Built} or 2.11";

    public static string Advice =>
        $"Set {Variable} to the torch/lib of a PyTorch {Supported} (python -c \"import torch; print(torch.__path__[0] + '/lib')\" prints " +
            "it), or build the module with -p:Torch=cuda-linux or -p:Torch=cuda-windows, or use -Device cpu.";

    public static bool TakesAny => Environment.GetEnvironmentVariable(AnyVariable) == "1";

    public bool HasCuda => File.Exists(PathOf("torch_cuda"));

    /// <summary>Finds the libtorch that the variable names, or the one that was built into the module.</summary>
    public static LibTorch Find(string? named, string builtIn)
    {
        if (string.IsNullOrWhiteSpace(named))
        {
            return At(builtIn)
                ?? throw new MergeException(MergeError.DeviceUnavailable, "There is no libtorch, which -Device cuda needs.", Variable,
                    Advice);
        }

        // The package's folder or the unpacked archive may be named, too.
        var found = new[] { named, Path.Combine(named, "lib"), Path.Combine(named, "torch", "lib") }.Select(At)
            .FirstOrDefault(t => t is not null)
            ?? throw new MergeException(MergeError.DeviceUnavailable,
                $"{Variable} is '{named}', but there is no {FileName("torch_cpu")} in it.", named, Advice);
        return found.Version is null || IsSupported(found.Version) || TakesAny ? found : throw found.Unsupported(found.Version);
    }

    public MergeException Unsupported(string version) => new(
        MergeError.DeviceUnavailable,
        $"The libtorch in '{Directory}' is version {version}, but TorchSharp's binding works with {Supported} only.", Directory, Advice);

    /// <summary>True for a version that passes the goldens.</summary>
    public static bool IsSupported(string version) => SupportedVersion().IsMatch(version);

    public string PathOf(string library) => Path.Combine(Directory, FileName(library));

    /// <summary>The file name of a library on this system.</summary>
    public static string FileName(string library) =>
        OperatingSystem.IsWindows() ? $"{library}.dll" : OperatingSystem.IsMacOS() ? $"lib{library}.dylib" : $"lib{library}.so";

    private static LibTorch? At(string directory) =>
        File.Exists(Path.Combine(directory, FileName("torch_cpu")))
        ? new LibTorch(Path.GetFullPath(directory), VersionOf(directory)) : null;

    // version.py beside the lib of a Python package; build-version beside the lib of an archive.
    private static string? VersionOf(string directory)
    {
        var above = Path.GetFullPath(Path.Combine(directory, ".."));
        var (python, archive) = (Path.Combine(above, "version.py"), Path.Combine(above, "build-version"));
        return File.Exists(archive) ? File.ReadAllText(archive).Trim()
            : File.Exists(python) && PythonVersion().Match(File.ReadAllText(python)) is { Success: true } match ? match.Groups[1].Value
            : null;
    }

    [GeneratedRegex(@"^2\.1[01]([.+]|$)")]
    private static partial Regex SupportedVersion();

    [GeneratedRegex("""^__version__\s*=\s*['"]([^'"]+)['"]""", RegexOptions.Multiline)]
    private static partial Regex PythonVersion();
}
