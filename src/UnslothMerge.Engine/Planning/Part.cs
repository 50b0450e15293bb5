namespace UnslothMerge.Planning;

/// <summary>One worker's share of a save: so many of so many, counted from 1.</summary>
internal sealed record Part(int Number, int Count)
{
    private const string FromEngine = "env";

    /// <summary>Reads <c>3/16</c>, <c>env</c> (what the engine says that runs this process) or <c>env/16</c>.</summary>
    public static Part Parse(string text, Func<string, string?> variable)
    {
        var (first, last) = text.Split('/') switch
        {
            [var one] => (one.Trim(), null),
            [var one, var other] => (one.Trim(), other.Trim()),
            _ => ("", null),
        };
        var count = last is null ? null : Integer(last);
        if (first.Equals(FromEngine, StringComparison.OrdinalIgnoreCase) && (last is null || count > 0))
        {
            return ArrayEngine.PartOf(count, variable);
        }

        return Integer(first) is { } number && count is { } of && number >= 1 && number <= of ? new Part(number, of)
            : throw Refused($"'{text}' is no part.", "Write it as 3/16, from 1/16 to 16/16; or as env or env/16 in a job of an array.");
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Number}/{Count}");

    /// <summary>The error of a part that cannot be.</summary>
    public static MergeException Refused(string message, string advice) =>
        new(MergeError.InvalidOption, message, nameof(Part), advice);

    private static int? Integer(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
