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

    /// <summary>A table, without the columns that say nothing. Those whose title begins with # are numbers.</summary>
    public static string Table(IReadOnlyList<string> titles, IEnumerable<IReadOnlyList<string?>> rows)
    {
        var all = rows.ToList();
        var shown = Enumerable.Range(0, titles.Count).Where(i => all.Exists(r => !string.IsNullOrEmpty(r[i]))).ToList();
        var body = string.Concat(all.Select(r => $"<tr>{string.Concat(shown.Select(i => Cell("td", titles[i], Text(r[i]))))}</tr>\n"));
        return body.Length == 0 ? ""
            : $"<table><thead><tr>{string.Concat(shown.Select(i => Cell("th", titles[i], Text(titles[i].TrimStart('#')))))}</tr></thead>"
                + $"<tbody>\n{body}</tbody></table>\n";

        static string Cell(string tag, string title, string content) =>
            $"<{tag}{(title.StartsWith('#') ? " class=n" : "")}>{content}</{tag}>";
    }

    /// <summary>A list that is closed at first.</summary>
    public static string Details(string summary, string content) =>
        content.Length == 0 ? "" : $"<details><summary>{Text(summary)}</summary>\n{content}</details>\n";

    /// <summary>A ratio, as a reader compares it: <c>0.012 %</c>.</summary>
    public static string Percent(double? ratio) => ratio is { } value
        ? $"{(value * 100).ToString(value is 0 ? "0" : Digits(value * 100), CultureInfo.InvariantCulture)} %" : "";

    // Three of them, below one part in a thousand of a percent as a power.
    private static string Digits(double percent) => percent switch
    {
        >= 99.95 => "0",
        >= 9.995 => "0.0",
        >= 0.9995 => "0.00",
        >= 0.001 => "0.000",
        _ => "0.0e0",
    };
}
