namespace UnslothMerge.PowerShell.Reports;

/// <summary>A report as one HTML page: no script, no font and no picture from elsewhere.</summary>
internal static class ReportPage
{
    private const int MaxRows = 2_000;
    private const int LargestRows = 20;

    /// <summary>The page.</summary>
    public static string Of(MergeReport report) =>
        $"""
        <!doctype html>
        <html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
        <meta name=color-scheme content="light dark"><link rel=icon href="data:,">
        <title>Merge of {Html.Text(Path.GetFileName(report.Model))}</title>
        <style>{Style}</style></head><body>
        <h1>{Html.Text(Path.GetFileName(report.Model))}</h1>
        <p>{Html.Text(Summary(report))}</p>
        {Html.Section("What was merged", Sources(report))}
        {Html.Section("Relative change ‖Δ‖ / ‖W‖ in %", HeatMap.Of(report.Tensors, t => t.RelativeChange))}
        {Html.Section("Error of quantization ‖Q(W) − W‖ / ‖W‖ in %", HeatMap.Of(report.Tensors, t => t.RelativeError))}
        {Html.Section("What happened to the tensors", Actions(report))}
        {Html.Section("Largest changes", Tensors(report.Tensors.OrderByDescending(t => t.RelativeChange), LargestRows))}
        {Html.Section("Checks", Checks(report))}
        {Html.Section("Time and memory", Cost(report))}
        <footer>{Html.Text(report.Record?.String("version") ?? "UnslothMerge")}. Norms are Frobenius norms, Δ is what was added before
        rounding, W the weight of the base. The model is at {Html.Text(report.Model)}.</footer>
        </body></html>

        """;

    private static string Summary(MergeReport report)
    {
        var options = report.Record?["options"] as JsonObject;
        var changed = report.Tensors.Count(t => t.IsChanged);
        return $"{changed} of {report.Tensors.Count} tensors changed"
            + (options?.String("method") is { } method ? $", saved as {method}" : "")
            + (options?.String("dtype") is { } type ? $" ({type})" : "")
            + $", {ByteSize.Text(report.Tensors.Sum(t => t.Bytes))}.";
    }

    private static string Sources(MergeReport report)
    {
        if (report.Record is not { } record)
        {
            return "";
        }

        var @base = record["base"] as JsonObject ?? [];
        var adapters = (record["adapters"] as JsonArray ?? []).OfType<JsonObject>().ToList();
        var rows = new List<IReadOnlyList<string?>> { Row("base", @base, "header_sha256", 0) };
        rows.AddRange(adapters.Select((a, i) => Row("adapter", a, "sha256", i + 1)));
        var merges = (record["merges"] as JsonArray ?? []).OfType<JsonObject>().ToList();
        return Html.Table(["", "what", "commit", "SHA-256", "#weight", "options"], rows)
            + Html.Table(["merge", "#adapters", "strength"], merges.Select((m, i) => (IReadOnlyList<string?>)
                [$"{i + 1}", m["adapters"]?.ToJsonString(), m["strength"]?.ToJsonString() ?? "1"]));

        IReadOnlyList<string?> Row(string what, JsonObject json, string hash, int index) =>
        [
            what, json.String("id") ?? report.Sources.ElementAtOrDefault(index) ?? "a local directory", json.String("commit"),
            $"{json.String(hash)}{(what == "base" ? " (header)" : "")}", json["weight"]?.ToJsonString(), json["options"]?.ToJsonString(),
        ];
    }

    private static string Actions(MergeReport report)
    {
        var rows = report.Tensors.GroupBy(t => t.Action).OrderBy(g => g.Key, StringComparer.Ordinal).Select(g => (IReadOnlyList<string?>)
            [g.Key, $"{g.Count()}", ByteSize.Text(g.Sum(t => t.Bytes)), Meaning(g.Key)]);
        return Html.Table(["action", "#tensors", "#size", ""], rows)
            + Names("Replaced or added", [.. report.Tensors.Where(t => t.Action is "Replace" or "Add").Select(t => t.Name)])
            + Names("Left out: the strength is 0", report.LeftOut)
            + Html.Details("All changed tensors", Tensors(report.Tensors.Where(t => t.IsChanged), MaxRows));
    }

    private static string Meaning(string action) => action switch
    {
        "Copy" => "bytes of the base",
        "Decode" => "values of the base, stored otherwise",
        "Merge" => "deltas added",
        "Replace" => "from an adapter, in place of the base's",
        _ => "from an adapter; the base has none",
    };

    private static string Names(string title, IReadOnlyList<string> names) => names.Count == 0 ? "" : Html.Details(
        $"{title}: {names.Count}",
        $"<p>{string.Join("<br>\n", names.Take(MaxRows).Select(Html.Text))}{(names.Count > MaxRows ? "<br>…" : "")}</p>\n");

    private static string Tensors(IEnumerable<ReportTensor> tensors, int limit)
    {
        var shown = tensors.Where(t => t.RelativeChange is not null || t.IsChanged).ToList();
        var table = Html.Table(["tensor", "action", "#shape", "format", "#change", "#error"], shown.Take(limit).Select(t =>
            (IReadOnlyList<string?>)
            [t.Name, t.Action, t.Shape, t.Format, Html.Percent(t.RelativeChange), Html.Percent(t.RelativeError)]));
        return table + (shown.Count > limit && limit == MaxRows ? $"<p>… and {shown.Count - limit} more.</p>\n" : "");
    }

    private static string Checks(MergeReport report) => Html.Table(["check", "passed", "detail"], report.Checks.Select(c =>
        (IReadOnlyList<string?>)[c.Check, c.Passed switch { true => "yes", false => "NO", null => "no reference" }, c.Detail]));

    private static string Cost(MergeReport report)
    {
        var rows = new List<IReadOnlyList<string?>>();
        if (report.Plan is { } plan)
        {
            rows.Add(["planned", plan.EstimatedSeconds is { } time ? Seconds(time) : null, ByteSize.Text(plan.PeakHostBytes),
                $"{plan.Workers} workers, {plan.Device}"]);
        }

        if (report.Shards.Count > 0)
        {
            rows.Add([
                "used", Seconds(report.Shards.Max(s => s.WholeTime).TotalSeconds),
                report.PeakBytes is { } peak ? ByteSize.Text(peak) : null,
                "memory: the peak of the process, with all that it did before"]);
        }

        return Html.Table(["", "#time", "#memory", ""], rows)
            + Html.Table(["shard", "#tensors", "#changed", "#size"], report.Shards.Take(MaxRows).Select(s => (IReadOnlyList<string?>)
                [s.Name, $"{s.Tensors.Length}", $"{s.Changed}", ByteSize.Text(s.Bytes)]));
    }

    private static string Seconds(double seconds) => $"{seconds.ToString("F1", CultureInfo.InvariantCulture)} s";

    private const string Style = """
        :root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--line:#ddd;--cold:#f4f4f4;--hot:#c2410c}
        @media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--paper:#161616;--line:#3a3a3a;--cold:#222;--hot:#ea580c}}
        body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:72rem;margin:2rem auto;padding:0 1rem}
        h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
        table{border-collapse:collapse;margin:.5rem 0;font-size:.85rem}
        th,td{padding:.15rem .5rem;border-bottom:1px solid var(--line);text-align:left;overflow-wrap:anywhere;vertical-align:top}
        th{overflow-wrap:normal}.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
        .wide{overflow-x:auto}.map th{font-weight:normal}.map thead th{max-width:7rem;vertical-align:bottom}
        .map td{text-align:right;font-variant-numeric:tabular-nums;border:1px solid var(--paper);min-width:3rem}
        .map td[style]{background:color-mix(in oklab,var(--hot) calc(var(--v)*85%),var(--cold))}
        .scale span{display:inline-block;width:12rem;height:.8rem;background:linear-gradient(90deg,var(--cold),var(--hot))}
        summary{cursor:pointer}footer{margin-top:3rem;font-size:.8rem;border-top:1px solid var(--line)}
        @media print{:root{--ink:#000;--paper:#fff;--line:#bbb;--cold:#fff;--hot:#fb923c;font-size:11px}
        body{max-width:none;margin:0;font-size:1em}
        .map td[style]{print-color-adjust:exact;-webkit-print-color-adjust:exact}tr{break-inside:avoid}.wide{overflow:visible}}
        """;
}
