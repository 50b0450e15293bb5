using System.Runtime.Loader;

namespace UnslothMerge.Devices;

/// <summary>Opens a libtorch device; implemented by the one class of that name in UnslothMerge.Torch.</summary>
internal interface ITorchDevices
{
    IMergeDevice Open(DeviceRequest request);
}

/// <summary>Loads UnslothMerge.Torch when a device is requested, from <c>bin/torch</c> beside the engine's folder, into a load context of
/// its own. Merges on the cores never load it.</summary>
internal static class TorchAssembly
{
    private const string Torch = "UnslothMerge.Torch";

    private static readonly Lazy<Assembly> Loaded = new(Load);

    public static ITorchDevices Devices =>
        (ITorchDevices)Activator.CreateInstance(Loaded.Value.GetType($"{Torch}.TorchDevices", throwOnError: true)!)!;

    private static Assembly Load()
    {
        var engine = typeof(TorchAssembly).Assembly;
        var beside = Path.GetDirectoryName(engine.Location)!;
        if (File.Exists(Path.Combine(beside, $"{Torch}.dll")))
        {
            return AssemblyLoadContext.GetLoadContext(engine)!.LoadFromAssemblyName(new AssemblyName(Torch));
        }

        var directory = Path.GetFullPath(Path.Combine(beside, "..", "torch"));
        return File.Exists(Path.Combine(directory, $"{Torch}.dll"))
            ? new TorchContext(engine, directory).LoadFromAssemblyName(new AssemblyName(Torch))
            : throw new MergeException(MergeError.DeviceUnavailable,
                $"The module was installed without its GPU part: '{directory}' has no {Torch}.dll.", directory,
                "Install the whole module again, or use -Device cpu.");
    }

    private sealed class TorchContext(Assembly engine, string directory) : AssemblyLoadContext(Torch)
    {
        protected override Assembly? Load(AssemblyName assemblyName)
        {
            var path = Path.Combine(directory, $"{assemblyName.Name}.dll");
            return assemblyName.Name == engine.GetName().Name ? engine
                : File.Exists(path) ? LoadFromAssemblyPath(path)
                : null;
        }
    }
}
