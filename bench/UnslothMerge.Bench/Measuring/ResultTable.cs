using System.Globalization;

namespace UnslothMerge.Bench.Measuring;

/// <summary>Prints measurements as a Markdown table, each set beside the copy with the same promise about the disk.</summary>
internal static class ResultTable
{
    private static readonly string[] Header = ["what", "median s", "min s", "/ cp, median of rounds", "/ cp, of medians", "peak MB"];

    /// <summary>Prints the table.</summary>
    /// <param name="contenders">Who took part; a <see cref="CopyContender"/> for every kind of sync.</param>
    /// <param name="results">For each contender its measurements, by round.</param>
    public static void Print(IReadOnlyList<Contender> contenders, Measurement[][] results)
    {
        var rows = new List<string[]> { Header };
        for (var i = 0; i < contenders.Count; i++)
        {
            var contender = contenders[i];
            var copy = Enumerable.Range(0, contenders.Count).First(j => contenders[j] is CopyContender && contenders[j].Sync == contender.Sync);
            var yardstick = Array.ConvertAll(results[copy], m => m.Seconds);
            var peak = results[i].Max(m => m.PeakBytes);
            var name = contender.Name + (contender.Sync ? ", synced" : "");
            rows.Add(Row(name, Array.ConvertAll(results[i], m => m.Seconds), yardstick, peak));
            if (contender is not CopyContender)
            {
                rows.Add(Row(name + ", whole process", Array.ConvertAll(results[i], m => m.ProcessSeconds), yardstick, peak));
            }
        }

        rows.Insert(1, Array.ConvertAll(Header, _ => "-"));
        var widths = Enumerable.Range(0, Header.Length).Select(c => rows.Max(r => r[c].Length)).ToArray();
        foreach (var row in rows)
        {
            Console.WriteLine($"| {string.Join(" | ", row.Select((cell, c) => cell == "-" ? Rule(widths[c], c) : c == 0 ? cell.PadRight(widths[c]) : cell.PadLeft(widths[c])))} |");
        }
    }

    /// <summary>The middle of some numbers, or the mean of the two in the middle.</summary>
    public static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    private static string Rule(int width, int column) => column == 0 ? new string('-', width) : new string('-', width - 1) + ":";

    private static string[] Row(string name, double[] seconds, double[] yardstick, long? peak) =>
    [
        name,
        Text(Median(seconds)),
        Text(seconds.Min()),
        Text(Median(seconds.Zip(yardstick, (a, b) => a / b))),
        Text(Median(seconds) / Median(yardstick)),
        peak is { } bytes ? (bytes / 1e6).ToString("F0", CultureInfo.InvariantCulture) : "",
    ];

    private static string Text(double value) => value.ToString("F3", CultureInfo.InvariantCulture);
}
