using System.Reflection;
using System.Runtime.Loader;

namespace UnslothMerge.Torch.Native;

internal sealed record LoadedTorch(LibTorch Torch, IReadOnlyList<string> Notes);

/// <summary>Loads libtorch and TorchSharp's binary before TorchSharp searches for them, so that every problem is reported as one error.
/// Once per process, which keeps native libraries.</summary>
internal static unsafe partial class LibTorchLoader
{
    private const string Binding = "LibTorchSharp";
    private const int Lazy = 1;
    private const int Now = 2;

    private static readonly string[] Libraries = ["c10", "torch_cpu", "torch_cuda", "torch"];
    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, nint> Handles = [];
    private static LoadedTorch? _loaded;

    /// <summary>The folder of TorchSharp's binary: the platform's, or the assembly's if it was published for one platform.</summary>
    public static string NativeDirectory
    {
        get
        {
            var beside = Path.GetDirectoryName(typeof(LibTorchLoader).Assembly.Location)!;
            var platform = Path.Combine(beside, "runtimes",
                OperatingSystem.IsWindows() ? "win-x64" : OperatingSystem.IsMacOS() ? "osx-arm64" : "linux-x64", "native");
            return Directory.Exists(platform) ? platform : beside;
        }
    }

    public static LoadedTorch Load(bool cuda)
    {
        lock (Gate)
        {
            var torch = _loaded?.Torch ?? LibTorch.Find(Environment.GetEnvironmentVariable(LibTorch.Variable), NativeDirectory);
            if (cuda && !torch.HasCuda)
            {
                throw new MergeException(MergeError.DeviceUnavailable,
                    $"The libtorch in '{torch.Directory}' was built for the processor only.", torch.Directory, LibTorch.Advice);
            }

            return _loaded ??= Load(torch);
        }
    }

    private static LoadedTorch Load(LibTorch torch)
    {
        foreach (var library in Libraries.Where(l => File.Exists(torch.PathOf(l))))
        {
            Handles[library] = Open(torch.PathOf(library));
        }

        var version = VersionOf(torch);
        var notes = new List<string> { $"libtorch {torch.Version ?? version} is taken from '{torch.Directory}'." };
        if (!LibTorch.IsSupported(version))
        {
            notes.Add(LibTorch.TakesAny
                ? $"It is version {version}, and TorchSharp works with {LibTorch.Supported}: {LibTorch.AnyVariable} allows it."
                : throw torch.Unsupported(version));
        }

        var binding = Path.Combine(NativeDirectory, LibTorch.FileName(Binding));
        if (OperatingSystem.IsLinux() && VersionTag.Remedy(binding) is { } copy)
        {
            notes.Add(
                $"The system's libstdc++ has no {VersionTag.Name}, which '{binding}' requires but does not use: the copy '{copy}', which " +
                "does not require it, is loaded.");
            binding = copy;
        }

        // Another version may lack functions that nothing here calls.
        Handles[Binding] = Open(binding, version == LibTorch.Built ? Now : Lazy);
        foreach (var assembly in new[] { typeof(torch).Assembly, Assembly.GetExecutingAssembly() }.Distinct())
        {
            AssemblyLoadContext.GetLoadContext(assembly)!.ResolvingUnmanagedDll += (_, name) => Handles.GetValueOrDefault(name);
        }

        return new LoadedTorch(torch, notes);
    }

    // Unless it is lazy, every symbol is resolved at once: a missing one is reported here, by name, not during a merge.
    private static nint Open(string path, int flags = Now)
    {
        if (OperatingSystem.IsWindows())
        {
            return NativeLibrary.TryLoad(path, out var library) ? library : throw Unusable(path, Marshal.GetLastPInvokeErrorMessage());
        }

        var handle = DlOpen(path, flags);
        return handle != 0 ? handle : throw Unusable(path, DlError());
    }

    private static string VersionOf(LibTorch torch)
    {
        // The libraries export their version since 2.9: major, minor and patch in the three highest bytes.
        if (!NativeLibrary.TryGetExport(Handles["torch_cpu"], "aoti_torch_abi_version", out var export))
        {
            return torch.Version ?? "2.8 or older";
        }

        var version = ((delegate* unmanaged<ulong>)export)();
        return $"{version >> 56}.{(version >> 48) & 0xFF}";
    }

    private static MergeException Unusable(string path, string? why) =>
        new(MergeError.DeviceUnavailable, $"'{path}' cannot be loaded: {why}", path, LibTorch.Advice);

    [LibraryImport("libc", EntryPoint = "dlopen", StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint DlOpen(string path, int flags);

    [LibraryImport("libc", EntryPoint = "dlerror", StringMarshalling = StringMarshalling.Utf8)]
    private static partial string? DlError();
}
