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

        // UnslothMerge.OneVersion.psm1 calls it.
        AppContext.SetData("UnslothMerge", (Action<string>)RefuseOther);
    }

    public void OnRemove(PSModuleInfo psModuleInfo) => AssemblyLoadContext.Default.Resolving -= Resolve;

    // Throws for a module in another directory than this one.
    private static void RefuseOther(string directory)
    {
        var assembly = typeof(EngineLoader).Assembly;
        var loaded = Path.GetDirectoryName(Path.GetDirectoryName(assembly.Location))!;
        if (directory != loaded)
        {
            throw new OtherVersionException(
                $"UnslothMerge {assembly.GetName().Version?.ToString(3)} of '{loaded}' was loaded in this session, and so the one of "
                + $"'{directory}' cannot be. Start a new session for it.", loaded);
        }
    }

    // A script that calls a method gets any exception but this kind wrapped; as one that was thrown by `throw` it ends the import.
    private sealed class OtherVersionException : MethodException
    {
        public OtherVersionException(string message, string loaded) : base(message)
        {
            ErrorRecord = new(new InvalidOperationException(message), "OtherVersionLoaded", ErrorCategory.ResourceExists, loaded);
            WasThrownFromThrowStatement = true;
        }

        public override ErrorRecord ErrorRecord { get; }
    }

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
