using System.Reflection;
using System.Runtime.Loader;
using UnslothMerge.Help;

if (args is not [var assemblyPath, var engine, var pages, var output, var docs])
{
    Console.Error.WriteLine(
        "usage: UnslothMerge.Help <cmdlets.dll> <folder of the engine> <folder of pages> <help.xml> <folder for Markdown>");
    return 2;
}

AssemblyLoadContext.Default.Resolving += (context, name) =>
    Path.Combine(engine, $"{name.Name}.dll") is var path && File.Exists(path) ? context.LoadFromAssemblyPath(path) : null;
try
{
    var assembly = AssemblyLoadContext.Default.LoadFromAssemblyPath(Path.GetFullPath(assemblyPath));
    var (comments, cmdlets) = (XmlComments.Load(Path.ChangeExtension(assemblyPath, ".xml")), CmdletList.Of(assembly));
    var help = new MamlWriter(comments, cmdlets, pages).Write();
    Directory.CreateDirectory(Path.GetDirectoryName(output)!);
    help.Save(output);

    Directory.CreateDirectory(docs);
    var markdown = new MarkdownWriter(comments, pages);
    foreach (var (cmdlet, element) in cmdlets.Zip(help.Root!.Elements()))
    {
        File.WriteAllText(Path.Combine(docs, $"{cmdlet.Name}.md"), markdown.Write(cmdlet, element));
    }

    return 0;
}
catch (HelpException e)
{
    // In the form that MSBuild takes for an error of the build.
    Console.Error.WriteLine($"{e.Source}: error HELP: {e.Message}");
    return 1;
}
