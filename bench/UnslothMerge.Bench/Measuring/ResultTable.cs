namespace UnslothMerge.Bench.Measuring;

/// <summary>Prints measurements as a Markdown table, each set beside the copy with the same promise about the disk.</summary>
internal static class ResultTable
{
    /// <summary>Prints the table; there is a <see cref="CopyContender"/> for every kind of sync.</summary>
    public static void Print(IReadOnlyList<Contender> contenders, Measurement[][] results)
    {
        List<string[]> rows = [["what", "median s", "min s", "/ cp, median of rounds", "/ cp, of medians", "peak MB"]];
        for (var i = 0; i < contenders.Count; i++)
        {
            var contender = contenders[i];
            var copy = contenders.Index().First(c => c.Item is CopyContender && c.Item.Sync == contender.Sync).Index;
            var yardstick = Seconds(results[copy]);
            var peak = results[i].Max(m => m.PeakBytes);
            rows.Add(Row(Name(contender), Seconds(results[i]), yardstick, peak));
            if (contender is not CopyContender)
            {
                rows.Add(Row(Name(contender) + ", whole process", Array.ConvertAll(results[i], m => m.ProcessSeconds), yardstick, peak));
            }
        }

        Print(rows);
    }

    /// <summary>Prints a table of merges by two builds, this one's and then the other's in each pair.</summary>
    public static void PrintPairs(IReadOnlyList<Contender> contenders, Measurement[][] results)
    {
        List<string[]> rows = [["what", "median s", "min s", "/ other, median of rounds", "/ other, of medians", "MB", "other s", "MB"]];
        for (var i = 0; i < contenders.Count; i += 2)
        {
            var other = Seconds(results[i + 1]);
            var row = Row(Name(contenders[i]), Seconds(results[i]), other, results[i].Max(m => m.PeakBytes));
            rows.Add([.. row, Text(Median(other)), Megabytes(results[i + 1].Max(m => m.PeakBytes))]);
        }

        Print(rows);
    }

    /// <summary>Prints a table whose first column is text and whose others are numbers.</summary>
    public static void Print(List<string[]> rows)
    {
        rows.Insert(1, Array.ConvertAll(rows[0], _ => "-"));
        var widths = Enumerable.Range(0, rows[0].Length).Select(c => rows.Max(r => r[c].Length)).ToArray();
        foreach (var row in rows)
        {
            var cells = row.Select((cell, c) => (cell == "-", c == 0) switch
            {
                (true, true) => new string('-', widths[c]),
                (true, false) => new string('-', widths[c] - 1) + ":",
                (false, true) => cell.PadRight(widths[c]),
                (false, false) => cell.PadLeft(widths[c]),
            });
            Console.WriteLine($"| {string.Join(" | ", cells)} |");
        }
    }

    /// <summary>The middle of some numbers, or the mean of the two in the middle.</summary>
    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>A number as the tables show it.</summary>
    public static string Text(double value) => value.ToString("F3", CultureInfo.InvariantCulture);

    private static string Name(Contender contender) => contender.Name + (contender.Sync ? ", synced" : "");

    public static string Megabytes(long? bytes) => bytes is null ? "" : (bytes.Value / 1e6).ToString("F0", CultureInfo.InvariantCulture);

    private static double[] Seconds(Measurement[] measurements) => Array.ConvertAll(measurements, m => m.Seconds);

    private static string[] Row(string name, double[] seconds, double[] yardstick, long? peak) =>
    [
        name,
        Text(Median(seconds)),
        Text(seconds.Min()),
        Text(Median(seconds.Zip(yardstick, (a, b) => a / b))),
        Text(Median(seconds) / Median(yardstick)),
        Megabytes(peak),
    ];
}
