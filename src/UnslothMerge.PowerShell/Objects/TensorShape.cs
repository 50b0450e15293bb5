namespace UnslothMerge.PowerShell;

/// <summary>The shape of a tensor. Prints as <c>2048x8192</c>, equals such a text, sorts by the number of elements, has an index for
/// dimensions.</summary>
#pragma warning disable CA1036 // PowerShell compares through IComparable; C# operators would serve nobody
public sealed class TensorShape : IComparable, IEquatable<TensorShape>
#pragma warning restore CA1036
{
    internal TensorShape(IReadOnlyList<long> dimensions) => Dimensions = [.. dimensions];

    /// <summary>The dimensions. The tensors show them, not the shape: ConvertTo-Json would not reach them here.</summary>
    internal long[] Dimensions { get; }

    /// <summary>The number of dimensions.</summary>
    public int Rank => Dimensions.Length;

    /// <summary>The number of elements.</summary>
    public long Count => Dimensions.Aggregate(1L, (a, b) => a * b);

    /// <summary>The shape as text.</summary>
    public string Text => ToString();

    /// <summary>A dimension; negative indices count from the end.</summary>
    /// <remarks>The index is a long because PowerShell takes an int index together with <see cref="Count"/> for a list, whose Count it
    /// expects to be an int.</remarks>
    public long this[long index] => Dimensions[index < 0 ? Dimensions.Length + index : index];

    public override string ToString() => Dimensions.Length == 0 ? "scalar" : string.Join('x', Dimensions);

    /// <summary>Reads a shape as it is printed, or as others write it: 43×20, 43 x 20, [43, 20].</summary>
    /// <exception cref="FormatException">The text is no shape.</exception>
    public static TensorShape Parse(string text) => TryParse(text) ?? throw new FormatException($"'{text}' is not a shape such as 43x20.");

    public int CompareTo(object? obj) => (obj is string text ? TryParse(text) : obj) is TensorShape other
        ? Count != other.Count ? Count.CompareTo(other.Count) : string.CompareOrdinal(ToString(), other.ToString())
        : obj is null ? 1 : string.CompareOrdinal(ToString(), obj.ToString());

    public bool Equals(TensorShape? other) => other is not null && Dimensions.AsSpan().SequenceEqual(other.Dimensions);

    public override bool Equals(object? obj) => Equals(obj is string text ? TryParse(text) : obj as TensorShape);

    public override int GetHashCode() => ToString().GetHashCode(StringComparison.Ordinal);

    private static TensorShape? TryParse(string text)
    {
        var numbers = new List<long>();
        foreach (var part in text.Trim().TrimStart('[', '(').TrimEnd(']', ')').Split('x', 'X', '×', ','))
        {
            if (!long.TryParse(part, NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture,
                out var number))
            {
                return text.Trim() == "scalar" ? new TensorShape([]) : null;
            }

            numbers.Add(number);
        }

        return new TensorShape(numbers);
    }
}
