using System.Reflection;
using System.Runtime.Loader;
using UnslothMerge.Help;

if (args is not [var assemblyPath, var engine, var pages, var output])
{
    Console.Error.WriteLine("usage: UnslothMerge.Help <cmdlets.dll> <folder of the engine> <folder of pages> <help.xml>");
    return 2;
}

AssemblyLoadContext.Default.Resolving += (context, name) =>
    Path.Combine(engine, $"{name.Name}.dll") is var path && File.Exists(path) ? context.LoadFromAssemblyPath(path) : null;
try
{
    var assembly = AssemblyLoadContext.Default.LoadFromAssemblyPath(Path.GetFullPath(assemblyPath));
    var help = new MamlWriter(XmlComments.Load(Path.ChangeExtension(assemblyPath, ".xml")), CmdletList.Of(assembly), pages).Write();
    Directory.CreateDirectory(Path.GetDirectoryName(output)!);
    help.Save(output);
    return 0;
}
catch (HelpException e)
{
    // In the form that MSBuild takes for an error of the build.
    Console.Error.WriteLine($"{e.Source}: error HELP: {e.Message}");
    return 1;
}
