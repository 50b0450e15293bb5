using System.Reflection;
using System.Xml.Linq;

namespace UnslothMerge.Help;

/// <summary>The summaries of the XML documentation file that the compiler writes.</summary>
internal sealed partial class XmlComments(IReadOnlyDictionary<string, string> summaries)
{
    public static XmlComments Load(string path) => new(XDocument.Load(path).Descendants("member")
        .Where(m => m.Element("summary") is not null)
        .ToDictionary(m => (string)m.Attribute("name")!, m => Text(m.Element("summary")!), StringComparer.Ordinal));

    /// <summary>What a class, a cmdlet's property or an enum's value is.</summary>
    public string Of(MemberInfo member)
    {
        var (prefix, type) = member switch
        {
            Type t => ("T", t),
            PropertyInfo => ("P", member.DeclaringType!),
            _ => ("F", member.DeclaringType!),
        };
        var id = member is Type ? $"T:{type.FullName}" : $"{prefix}:{type.FullName}.{member.Name}";
        return summaries.TryGetValue(id, out var text)
            ? text : throw new HelpException(id, "Give it a <summary>: it is what Get-Help shows.");
    }

    /// <summary>The words of an element; references become the name they end in.</summary>
    private static string Text(XElement element) => Space().Replace(string.Concat(element.Nodes().Select(n => n switch
    {
        XText text => text.Value,
        XElement { Name.LocalName: "see" or "paramref" or "seealso" } reference =>
            ((string?)reference.Attribute("cref") ?? (string?)reference.Attribute("name") ?? (string?)reference.Attribute("langword") ?? "")
            .Split('.', ':')[^1],
        XElement inner => Text(inner),
        _ => "",
    })), " ").Trim();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Space();
}
