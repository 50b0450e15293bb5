using System.Management.Automation.Host;

namespace UnslothMerge.PowerShell;

/// <summary>Formats numbers for the views of UnslothMerge.format.ps1xml.</summary>
public static class Display
{
    /// <summary>What a group of targets in a table is called; empty for copies that came out of a job or a file.</summary>
    public static string Heading(object target) =>
        (target is System.Management.Automation.PSObject wrapped ? wrapped.BaseObject : target) is LoraTarget own ? own.Heading : "";

    /// <summary>What the table says below a tensor of a merge; empty for all but the last.</summary>
    public static string Note(object tensor) =>
        (tensor is System.Management.Automation.PSObject wrapped ? wrapped.BaseObject : tensor) is MergeTensor { Note: { } note }
            ? $"\n\n{note}" : "";

    /// <summary>A size: <c>2.47 GB</c>; a dash for 0 and null.</summary>
    public static string Size(long? bytes) => bytes is null or 0 ? "-" : ByteSize.Text(bytes.Value, CultureInfo.CurrentCulture);

    /// <summary>A number of parameters: <c>1.24 B</c>, <c>7.82 k</c>.</summary>
    public static string Count(long count)
    {
        var value = (double)count;
        foreach (var unit in new[] { "", " k", " M", " B", " T" })
        {
            if (value < 999.5 || unit == " T")
            {
                return value.ToString(unit.Length == 0 ? "F0" : value >= 99.95 ? "F0" : value >= 9.995 ? "F1" : "F2",
                    CultureInfo.CurrentCulture) + unit;
            }

            value /= 1000;
        }

        throw new System.Diagnostics.UnreachableException();
    }

    /// <summary>A duration: <c>1.0 s</c>; a dash for null.</summary>
    public static string Time(double? seconds) => seconds is not { } time ? "-"
        : time < 60 ? $"{time.ToString("F1", CultureInfo.CurrentCulture)} s"
        : TimeSpan.FromSeconds(time).ToString(time < 3600 ? @"m\:ss" : @"h\:mm\:ss", CultureInfo.CurrentCulture);

    /// <summary>How much in which time, and how fast: <c>2.47 GB in 1.0 s, 2.47 GB/s</c>.</summary>
    internal static string Rate(long bytes, TimeSpan time) =>
        $"{Size(bytes)} in {Time(time.TotalSeconds)}, {Size((long)(bytes / Math.Max(time.TotalSeconds, 1e-3)))}/s";

    /// <summary>A text in lines that end at words, for the last column of a table, which PowerShell would break anywhere. The columns
    /// before it take <paramref name="left"/>.</summary>
    public static string Wrap(string? text, PSHost? host, int left)
    {
        var width = WidthOf(host) - left;
        return text is null || width < 20 ? text ?? ""
            : Regex.Replace(text, $"(.{{1,{width}}})(?: +|$)", "$1\n").TrimEnd('\n');
    }

    /// <summary>A name that leaves room for the columns after it, which take <paramref name="right"/>: PowerShell would cut those. What is
    /// left out is in its middle.</summary>
    public static string Short(string name, PSHost? host, int right) => Short(name, WidthOf(host) - right);

    /// <summary>A name of at most <paramref name="width"/> characters, unless that is too few for any.</summary>
    public static string Short(string name, int width) =>
        width < 20 || name.Length <= width ? name : $"{name[..(width / 3)]}…{name[^(width - (width / 3) - 1)..]}";

    /// <summary>A ratio with three digits; empty for null.</summary>
    public static string Ratio(double? ratio) => ratio?.ToString("G3", CultureInfo.CurrentCulture) ?? "";

    // 0 where there is no window.
    private static int WidthOf(PSHost? host)
    {
        try
        {
            return host?.UI?.RawUI?.WindowSize.Width ?? 0;
        }
        catch (Exception e) when (e is HostException or NotImplementedException or IOException)
        {
            return 0;
        }
    }
}
