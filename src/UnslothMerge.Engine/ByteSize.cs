namespace UnslothMerge;

/// <summary>Sizes as people write and read them. "5GB" is decimal, as on the Hugging Face Hub; "5GiB" is binary; digits alone are
/// bytes.</summary>
internal static class ByteSize
{
    private static readonly System.Buffers.SearchValues<char> NumberCharacters = System.Buffers.SearchValues.Create("0123456789.");
    private static readonly string[] DecimalUnits = ["B", "kB", "MB", "GB", "TB", "PB"];

    /// <summary>Reads a size such as <c>5GB</c>, <c>512 MiB</c>, <c>1.5GB</c> or <c>1048576</c>.</summary>
    public static bool TryParse(string? text, out long bytes)
    {
        bytes = 0;
        var trimmed = text?.Trim() ?? "";
        var digits = trimmed.AsSpan().IndexOfAnyExcept(NumberCharacters);
        var number = digits < 0 ? trimmed : trimmed[..digits];
        var unit = digits < 0 ? "" : trimmed[digits..].Trim().ToUpperInvariant();
        decimal? factor = unit switch
        {
            "" or "B" => 1m,
            "KB" or "K" => 1e3m,
            "MB" or "M" => 1e6m,
            "GB" or "G" => 1e9m,
            "TB" or "T" => 1e12m,
            "PB" or "P" => 1e15m,
            "KIB" => 1024m,
            "MIB" => 1024m * 1024,
            "GIB" => 1024m * 1024 * 1024,
            "TIB" => 1024m * 1024 * 1024 * 1024,
            _ => null,
        };
        if (factor is null || !decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value)
            || value > long.MaxValue / factor)
        {
            return false;
        }

        bytes = (long)(value * factor.Value);
        return true;
    }

    /// <summary>A size as people read it: <c>2.47 GB</c>.</summary>
    public static string Text(long bytes, CultureInfo? culture = null) => Text(bytes, moreDigits: 0, culture);

    /// <summary>Two sizes that are compared, with as many digits as it takes to tell them apart.</summary>
    public static (string One, string Other) Distinct(long one, long other)
    {
        for (var digits = 0; ; digits++)
        {
            if ((Text(one, digits), Text(other, digits)) is var texts && (texts.Item1 != texts.Item2 || one == other))
            {
                return texts;
            }
        }
    }

    private static string Text(long bytes, int moreDigits, CultureInfo? culture = null)
    {
        var value = (decimal)bytes;
        var unit = 0;
        while (Math.Abs(value) >= 999.5m && unit < DecimalUnits.Length - 1)
        {
            value /= 1000;
            unit++;
        }

        var digits = unit == 0 ? 0 : moreDigits + (value >= 99.95m ? 0 : value >= 9.995m ? 1 : 2);
        return $"{value.ToString($"F{digits}", culture ?? CultureInfo.InvariantCulture)} {DecimalUnits[unit]}";
    }
}
