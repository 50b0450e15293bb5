using System.Management.Automation;
using System.Reflection;
using System.Xml.Linq;

namespace UnslothMerge.Help;

/// <summary>Writes a cmdlet's page of docs/: its page of Help/, with the syntax, parameters and objects that Get-Help shows.</summary>
internal sealed class MarkdownWriter(XmlComments comments, string pages)
{
    private const int Width = 115;
    private const string Source = "src/UnslothMerge.PowerShell/Help";

    /// <summary>Writes one page.</summary>
    public string Write(CmdletInfo cmdlet, XElement help)
    {
        var page = File.ReadAllText(Path.Combine(pages, $"{cmdlet.Name}.md")).ReplaceLineEndings("\n");
        var (body, links) = (page.IndexOf('\n', StringComparison.Ordinal) + 2, page.IndexOf("## Links", StringComparison.Ordinal));
        var outputs = cmdlet.ImplementingType.GetCustomAttributes<OutputTypeAttribute>().SelectMany(a => a.Type);
        var syntax = CmdletList.SetsOf(cmdlet).Select(s => Wrap($"{cmdlet.Name} {s}", "    ", @" (?=\[)"));
        IEnumerable<string> lines =
        [
            $"# {cmdlet.Name}",
            $"<!-- Written by ./build.ps1 Docs from {Source} and the comments of the cmdlet. -->",
            .. Description(Child(help, "details")),
            $"```powershell\n{string.Join("\n\n", syntax)}\n```",
            page[body..links].TrimEnd(),
            "## Parameters",
            .. Child(help, "parameters").Elements().SelectMany(Parameter),
            "## Input",
            .. Child(help, "inputTypes").Elements().SelectMany(t => Description(t).Prepend($"### {Child(t, "type").Value}")),
            "## Output",
            .. outputs.Zip(Child(help, "returnValues").Elements(), (o, e) => Output(o.Type, e)).SelectMany(o => o),
            "## Links",
            string.Join('\n', Child(help, "relatedLinks").Elements().Select(l => Link(Child(l, "linkText").Value))),
        ];
        return string.Join("\n\n", lines) + "\n";
    }

    private static IEnumerable<string> Parameter(XElement parameter)
    {
        string Attribute(string name) => parameter.Attribute(name)!.Value;
        var type = parameter.Elements().FirstOrDefault(e => e.Name.LocalName == "parameterValue")?.Value ?? "switch";
        string[] facts =
        [
            $"`{type}`",
            Attribute("required") == "true" ? "required" : $"default: {Child(parameter, "defaultValue").Value}",
            Attribute("position") is var position && position == "named" ? "" : $"position {position}",
            Attribute("pipelineInput") is var input && input == "False" ? "" : $"from the pipeline {input[5..]}",
            Attribute("globbing") == "true" ? "wildcards" : "",
            Attribute("aliases") is var aliases && aliases == "none" ? "" : $"alias: {aliases}",
        ];
        return [$"### -{Child(parameter, "name").Value}", .. Description(parameter),
            Wrap(string.Join("; ", facts.Where(f => f.Length > 0)) + ".")];
    }

    private IEnumerable<string> Output(Type type, XElement element)
    {
        yield return $"### {type}";
        foreach (var paragraph in Description(element))
        {
            yield return paragraph;
        }

        if (type.Assembly != typeof(object).Assembly)
        {
            var properties = type.GetProperties(BindingFlags.Public | BindingFlags.Instance);
            yield return string.Join('\n', properties.Select(p => Wrap($"- `{p.Name}`: {Escape(comments.Of(p))}", "  ")));
        }
    }

    private static string Link(string name) => name.StartsWith("about_", StringComparison.Ordinal)
        ? $"- [{name}](../../{Source}/{name}.help.txt)"
        : $"- [{name}]({name}.md)";

    private static XElement Child(XElement element, string name) => element.Elements().First(e => e.Name.LocalName == name);

    private static IEnumerable<string> Description(XElement element) =>
        Child(element, "description").Elements().Select(p => Wrap(Escape(p.Value)));

    private static string Escape(string text) => Regex.Replace(text, "[*<]", @"\$0");

    private static string Wrap(string text, string indent = "", string at = " ") => string.Join(
        '\n', text.Split('\n').Select(l => Regex.Replace(l, $"(.{{1,{Width}}})(?:{at}|$)", $"$1\n{indent}").TrimEnd()));
}
