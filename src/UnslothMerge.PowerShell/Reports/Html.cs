using System.Net;

namespace UnslothMerge.PowerShell.Reports;

/// <summary>Writes elements of a page.</summary>
internal static class Html
{
    /// <summary>Text, with what is markup escaped.</summary>
    public static string Text(string? text) => WebUtility.HtmlEncode(text ?? "");

    /// <summary>A heading and what is below it; nothing if that is empty.</summary>
    public static string Section(string title, string content) =>
        content.Length == 0 ? "" : $"<section><h2>{Text(title)}</h2>\n{content}</section>\n";

    /// <summary>A table. Columns whose title begins with # are numbers.</summary>
    public static string Table(IReadOnlyList<string> titles, IEnumerable<IReadOnlyList<string?>> rows)
    {
        var body = string.Concat(rows.Select(r => $"<tr>{string.Concat(r.Select((c, i) => Cell("td", titles[i], Text(c))))}</tr>\n"));
        return body.Length == 0 ? ""
            : $"<table><thead><tr>{string.Concat(titles.Select(t => Cell("th", t, Text(t.TrimStart('#')))))}</tr></thead>"
                + $"<tbody>\n{body}</tbody></table>\n";

        static string Cell(string tag, string title, string content) =>
            $"<{tag}{(title.StartsWith('#') ? " class=n" : "")}>{content}</{tag}>";
    }

    /// <summary>A list that is closed at first.</summary>
    public static string Details(string summary, string content) =>
        content.Length == 0 ? "" : $"<details><summary>{Text(summary)}</summary>\n{content}</details>\n";

    /// <summary>A ratio, as a reader compares it: <c>0.012 %</c>.</summary>
    public static string Percent(double? ratio) => ratio is { } value
        ? $"{(value * 100).ToString(value is 0 or >= 0.00001 ? "0.###" : "0.0e0", CultureInfo.InvariantCulture)} %" : "";
}
