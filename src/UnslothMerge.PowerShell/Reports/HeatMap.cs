namespace UnslothMerge.PowerShell.Reports;

/// <summary>A table of layers and modules, coloured by a ratio on a logarithmic scale. The number is in the cell too: on paper, and for who
/// sees no colours.</summary>
internal static class HeatMap
{
    private const double LeastSpan = 4;

    /// <summary>One table for each part of the model; empty if no tensor has the ratio.</summary>
    public static string Of(IReadOnlyList<ReportTensor> tensors, Func<ReportTensor, double?> ratio)
    {
        var shown = tensors.Where(t => ratio(t) is not null).ToList();
        if (shown.Count == 0)
        {
            return "";
        }

        var positive = shown.Select(t => ratio(t)!.Value).Where(v => v > 0).DefaultIfEmpty(1).ToList();

        // Ratios that are nearly the same shall look so.
        var scale = new Scale(Math.Min(positive.Min(), positive.Max() / LeastSpan), positive.Max());
        var parts = shown.Where(t => t.Layer is not null).GroupBy(t => t.Component).ToList();
        var maps = parts.Select(p => Map(parts.Count > 1 ? p.Key : "layer", [.. p], ratio, scale));
        var outside = shown.Where(t => t.Layer is null).OrderByDescending(ratio).Take(100)
            .Select(t => $"<tr><th>{Html.Text(t.Name)}</th>{Cell([t], ratio, scale)}</tr>\n").ToList();
        return $"<p class=scale>{Html.Percent(scale.Min)} <span></span> {Html.Percent(scale.Max)}</p>\n"
            + string.Concat(maps)
            + (outside.Count == 0 ? "" : $"<table class=map><thead><tr><th>outside the layers</th><th></th></tr></thead><tbody>\n"
                + $"{string.Concat(outside)}</tbody></table>\n");
    }

    private static string Map(string title, List<ReportTensor> tensors, Func<ReportTensor, double?> ratio, Scale scale)
    {
        var columns = tensors.Select(t => t.Column).Distinct().ToList();
        var cells = tensors.ToLookup(t => (t.Layer, t.Column));
        var text = new StringBuilder($"<div class=wide><table class=map><thead><tr><th>{Html.Text(title)}</th>");
        text.AppendJoin("", columns.Select(c => $"<th>{Broken(c)}</th>")).Append("</tr></thead><tbody>\n");
        foreach (var layer in tensors.Select(t => t.Layer).Distinct().Order())
        {
            text.Append(CultureInfo.InvariantCulture, $"<tr><th>{layer}</th>");
            text.AppendJoin("", columns.Select(c => Cell([.. cells[(layer, c)]], ratio, scale))).Append("</tr>\n");
        }

        return text.Append("</tbody></table></div>\n").ToString();
    }

    // Experts share a cell: the largest is shown.
    private static string Cell(List<ReportTensor> tensors, Func<ReportTensor, double?> ratio, Scale scale)
    {
        if (tensors.MaxBy(ratio) is not { } largest)
        {
            return "<td></td>";
        }

        var value = ratio(largest)!.Value;
        var more = tensors.Count > 1 ? $", the largest of {tensors.Count}" : "";
        return $"<td style=\"--v:{scale.Of(value).ToString("0.##", CultureInfo.InvariantCulture)}\" title=\"{Html.Text(largest.Name)}: "
            + $"{value.ToString("G6", CultureInfo.InvariantCulture)}{more}\">{Html.Percent(value)[..^2]}</td>";
    }

    // Names may break where they are put together.
    private static string Broken(string name) => Regex.Replace(Html.Text(name), "[._](?=.)", "$0<wbr>");

    private readonly record struct Scale(double Min, double Max)
    {
        public double Of(double value) => value <= Min ? 0 : Math.Log(value / Min) / Math.Log(Max / Min);
    }
}
