namespace UnslothMerge.Planning;

/// <summary>How much memory a merge may take: a fraction of what is free where it works, or a number of bytes.</summary>
internal readonly record struct MemoryAmount
{
    /// <summary>Unsloth's default: three quarters of what is free.</summary>
    public const string Default = "0.75";

    // A number below that is no size, but a slip: 2 for 0.2, 75 for 75 percent.
    private const double LeastBytes = 1_000_000;
    private const double MostFraction = 0.95;

    private readonly double? _fraction;
    private readonly long _bytes;

    private MemoryAmount(double? fraction, long bytes) => (_fraction, _bytes) = (fraction, bytes);

    /// <summary>Reads <c>0.75</c> or <c>75%</c> (a fraction, 0 &lt; x ≤ 0.95) or a size such as <c>2GB</c>, at least a
    /// megabyte.</summary>
    public static MemoryAmount Parse(string text)
    {
        var isPercent = text.TrimEnd().EndsWith('%');
        var digits = isPercent ? text.TrimEnd().TrimEnd('%') : text;
        var isNumber = double.TryParse(digits, NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
            && (isPercent || number < LeastBytes);
        number /= isPercent ? 100 : 1;
        return isNumber && number is > 0 and <= MostFraction ? new MemoryAmount(number, 0)
            : !isNumber && ByteSize.TryParse(text, out var bytes) && bytes > 0 ? new MemoryAmount(null, bytes)
            : throw new MergeException(
                MergeError.InvalidOption,
                $"'{text}' is not an amount of memory.",
                "MaximumMemoryUsage",
                "Give a fraction of the free memory (0 < x ≤ 0.95, such as 0.75 or 75%) or a size (such as 2GB).");
    }

    /// <summary>The limit of this process: the fraction of what is free, and what it has already; or the size.</summary>
    public MemoryLimit OfHost() =>
        new(_fraction is { } fraction ? (long)(HostMemory.Available * fraction) + Environment.WorkingSet : _bytes);

    /// <summary>The bytes of a device that may be taken: the fraction of what is free, or the size as far as it is free.</summary>
    public long OfDevice(long free) => _fraction is { } fraction ? (long)(free * fraction) : Math.Min(_bytes, (long)(free * MostFraction));
}
