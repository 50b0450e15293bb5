using System.Reflection;
using System.Runtime.Loader;

namespace UnslothMerge.PowerShell.Isolation;

/// <summary>Keeps the engine and what it depends on out of the session: PowerShell loads only this assembly, and the engine comes from a
/// load context of its own over <c>bin/engine</c>, so that another module's version of a library never meets ours. What a folder there
/// holds that is called as this platform (<c>linux-x64</c> …) was compiled ahead for it and comes first.</summary>
public sealed class EngineLoader : IModuleAssemblyInitializer, IModuleAssemblyCleanup
{
    private const string Engine = "UnslothMerge.Engine";
    private static readonly Lazy<EngineContext> Context =
        new(() => new EngineContext(Path.Combine(Path.GetDirectoryName(typeof(EngineLoader).Assembly.Location)!, "engine")));

    public void OnImport()
    {
        AssemblyLoadContext.Default.Resolving += Resolve;

        // UnslothMerge.OneVersion.psm1 reads it.
        AppDomain.CurrentDomain.SetData("UnslothMerge", typeof(EngineLoader).Assembly);
    }

    public void OnRemove(PSModuleInfo psModuleInfo) => AssemblyLoadContext.Default.Resolving -= Resolve;

    // The one name that crosses the border; everything behind it is resolved inside.
    private static Assembly? Resolve(AssemblyLoadContext context, AssemblyName name) =>
        name.Name == Engine ? Context.Value.LoadFromAssemblyName(name) : null;

    private sealed class EngineContext(string directory) : AssemblyLoadContext(Engine)
    {
        private readonly string[] _directories = [Path.Combine(directory, Platform), directory];

        private static string Platform =>
            (OperatingSystem.IsWindows() ? "win-" : OperatingSystem.IsMacOS() ? "osx-" : "linux-")
            + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();

        protected override Assembly? Load(AssemblyName assemblyName) =>
            Find($"{assemblyName.Name}.dll") is { } path ? LoadFromAssemblyPath(path) : null;

        protected override nint LoadUnmanagedDll(string unmanagedDllName) =>
            Find(unmanagedDllName) is { } path ? LoadUnmanagedDllFromPath(path) : 0;

        private string? Find(string name) => _directories.Select(d => Path.Combine(d, name)).FirstOrDefault(File.Exists);
    }
}
