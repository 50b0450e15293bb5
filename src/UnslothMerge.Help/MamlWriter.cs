using System.ComponentModel;
using System.Management.Automation;
using System.Reflection;
using System.Xml.Linq;

namespace UnslothMerge.Help;

/// <summary>Writes MAML, the format of Get-Help.</summary>
internal sealed class MamlWriter(XmlComments comments, IReadOnlyList<CmdletInfo> cmdlets, string pages)
{
    private static readonly XNamespace Items = "http://msh";
    private static readonly XNamespace Maml = "http://schemas.microsoft.com/maml/2004/10";
    private static readonly XNamespace Command = "http://schemas.microsoft.com/maml/dev/command/2004/10";
    private static readonly XNamespace Dev = "http://schemas.microsoft.com/maml/dev/2004/10";

    private static readonly Dictionary<string, string> Common = new(StringComparer.Ordinal)
    {
        ["WhatIf"] = "Shows what would be done, and does nothing.",
        ["Confirm"] = "Asks before anything is done.",
    };

    public XDocument Write() => new(new XElement(Items + "helpItems", new XAttribute("schema", "maml"), cmdlets.Select(Describe)));

    private XElement Describe(CmdletInfo cmdlet)
    {
        var page = HelpPage.Load(pages, cmdlet.Name);
        var defaults = Activator.CreateInstance(cmdlet.ImplementingType)!;
        var sets = CmdletList.SetsOf(cmdlet).Select(s =>
            s.Parameters.Where(p => !IsCommon(p)).OrderBy(p => p.Position < 0 ? int.MaxValue : p.Position)
            .ThenByDescending(p => p.IsMandatory).ToList()).ToList();
        var all = sets.SelectMany(s => s).GroupBy(p => p.Name)
            .Select(g => g.OrderByDescending(p => p.ValueFromPipeline || p.ValueFromPipelineByPropertyName).First()).ToList();
        return new XElement(
            Command + "command",
            new XAttribute(XNamespace.Xmlns + "maml", Maml),
            new XAttribute(XNamespace.Xmlns + "command", Command),
            new XAttribute(XNamespace.Xmlns + "dev", Dev),
            new XElement(
                Command + "details",
                new XElement(Command + "name", cmdlet.Name),
                new XElement(Command + "verb", cmdlet.Verb),
                new XElement(Command + "noun", cmdlet.Noun),
                Text([comments.Of(cmdlet.ImplementingType)])),
            Text(page.Description),
            new XElement(Command + "syntax",
                sets.Select(s =>
                    new XElement(Command + "syntaxItem", new XElement(Maml + "name", cmdlet.Name),
                        s.Select(p => Describe(p, cmdlet, defaults))))),
            new XElement(Command + "parameters", all.Select(p => Describe(p, cmdlet, defaults))),
            new XElement(Command + "inputTypes", Inputs(all, cmdlet)),
            new XElement(Command + "returnValues", Outputs(cmdlet)),
            new XElement(Command + "examples", page.Examples.Select((e, i) => new XElement(
                Command + "example",
                new XElement(Maml + "title", $"-------- Example {i + 1}: {e.Title} --------"),
                new XElement(Dev + "code", e.Code),
                new XElement(Dev + "remarks", e.Remarks.Append("").Select(Paragraph))))),
            new XElement(Command + "relatedLinks", page.Links.Select(l => new XElement(
                Maml + "navigationLink",
                new XElement(Maml + "linkText", l),
                new XElement(Maml + "uri", l.StartsWith("http", StringComparison.Ordinal) ? l : "")))));
    }

    private XElement Describe(CommandParameterInfo parameter, CmdletInfo cmdlet, object defaults)
    {
        var property = Property(parameter, cmdlet);
        string[] text = property is null ? [Common[parameter.Name]] : [comments.Of(property), .. Values(property)];
        var pipeline = (parameter.ValueFromPipeline, parameter.ValueFromPipelineByPropertyName) switch
        {
            (true, true) => "True (ByPropertyName, ByValue)",
            (true, false) => "True (ByValue)",
            (false, true) => "True (ByPropertyName)",
            _ => "False",
        };
        var type = Nullable.GetUnderlyingType(parameter.ParameterType) ?? parameter.ParameterType;
        return new XElement(
            Command + "parameter",
            new XAttribute("required", parameter.IsMandatory),
            new XAttribute("variableLength", type.IsArray),
            new XAttribute("globbing", property?.IsDefined(typeof(SupportsWildcardsAttribute)) ?? false),
            new XAttribute("pipelineInput", pipeline),
            new XAttribute("position", parameter.Position < 0 ? "named" : $"{parameter.Position}"),
            new XAttribute("aliases", parameter.Aliases.Count == 0 ? "none" : string.Join(", ", parameter.Aliases)),
            new XElement(Maml + "name", parameter.Name),
            Text(text),
            type == typeof(SwitchParameter)
                ? null
                : new XElement(Command + "parameterValue", new XAttribute("required", true),
                    new XAttribute("variableLength", type.IsArray), ShortName(type)),
            Typed(type),
            new XElement(Dev + "defaultValue", property is null ? "False" : Default(property, defaults)));
    }

    // The values of the enum that a parameter takes, with the descriptions that Tab shows.
    private static IEnumerable<string> Values(PropertyInfo property) => property.GetCustomAttributes<ArgumentCompleterAttribute>()
        .SelectMany(c => c.Type.GetGenericArguments()).Where(t => t.IsEnum)
        .SelectMany(t => t.GetFields(BindingFlags.Public | BindingFlags.Static))
        .Select(f => $"- {f.Name}: {f.GetCustomAttribute<DescriptionAttribute>()!.Description.TrimEnd('.')}.");

    private IEnumerable<XElement> Inputs(List<CommandParameterInfo> parameters, CmdletInfo cmdlet)
    {
        foreach (var parameter in parameters.Where(p => p.ValueFromPipeline))
        {
            yield return new XElement(Command + "inputType", Typed(parameter.ParameterType),
                Text([comments.Of(Property(parameter, cmdlet)!)]));
        }

        var byName = parameters.Where(p => p.ValueFromPipelineByPropertyName && !p.ValueFromPipeline).Select(p => p.Name).ToList();
        if (byName.Count > 0)
        {
            yield return new XElement(Command + "inputType", Typed(typeof(PSObject)),
                Text([$"Any object with {(byName.Count == 1 ? "a property" : "properties")} {string.Join(", ", byName)}."]));
        }
    }

    private IEnumerable<XElement> Outputs(CmdletInfo cmdlet) => cmdlet.ImplementingType.GetCustomAttributes<OutputTypeAttribute>()
        .SelectMany(a => a.Type)
        .Select(o => new XElement(Command + "returnValue", Typed(o.Type), Text([Description(o.Type)])));

    private string Description(Type type) => type == typeof(bool) ? "True or false."
        : type == typeof(FileInfo) ? "The file."
        : comments.Of(type);

    private static string Default(PropertyInfo property, object defaults) =>
        property.GetCustomAttribute<PSDefaultValueAttribute>()?.Help
        ?? property.GetValue(defaults) switch
        {
            null or "" or Array => "None",
            SwitchParameter given => given.IsPresent.ToString(),
            var value => LanguagePrimitives.ConvertTo<string>(value),
        };

    // The property of the class that declares it, whose comment it has; null for what PowerShell adds.
    private static PropertyInfo? Property(CommandParameterInfo parameter, CmdletInfo cmdlet) =>
        cmdlet.ImplementingType.GetProperty(parameter.Name)?.DeclaringType?.GetProperty(parameter.Name);

    private static bool IsCommon(CommandParameterInfo parameter) => Cmdlet.CommonParameters.Contains(parameter.Name);

    private static XElement Text(IEnumerable<string> paragraphs) => new(Maml + "description", paragraphs.Select(Paragraph));

    private static XElement Paragraph(string text) => new(Maml + "para", text);

    private static XElement Typed(Type type) => new(Dev + "type", new XElement(Maml + "name", type.FullName));

    private static string ShortName(Type type) => type.IsArray ? $"{ShortName(type.GetElementType()!)}[]" : type.Name switch
    {
        "String" => "string",
        "Int32" => "int",
        "Double" => "double",
        var name => name,
    };
}
