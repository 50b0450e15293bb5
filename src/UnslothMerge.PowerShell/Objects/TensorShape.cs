namespace UnslothMerge.PowerShell;

/// <summary>The shape of a tensor. Prints as <c>2048×8192</c>, sorts by the number of elements, has an index for dimensions.</summary>
#pragma warning disable CA1036 // PowerShell compares through IComparable; C# operators would serve nobody
public sealed class TensorShape : IComparable, IEquatable<TensorShape>
#pragma warning restore CA1036
{
    private readonly long[] _dimensions;

    internal TensorShape(IReadOnlyList<long> dimensions) => _dimensions = [.. dimensions];

    /// <summary>The number of dimensions.</summary>
    public int Rank => _dimensions.Length;

    /// <summary>The number of elements.</summary>
    public long Count => _dimensions.Aggregate(1L, (a, b) => a * b);

    /// <summary>The shape as text, for <c>ConvertTo-Json</c>.</summary>
    public string Text => ToString();

    /// <summary>A dimension; negative indices count from the end.</summary>
    /// <remarks>The index is a long because PowerShell takes an int index together with <see cref="Count"/> for a list, whose Count it
    /// expects to be an int.</remarks>
    public long this[long index] => _dimensions[index < 0 ? _dimensions.Length + index : index];

    public override string ToString() => _dimensions.Length == 0 ? "scalar" : string.Join('×', _dimensions);

    public int CompareTo(object? obj) => obj is TensorShape other
        ? Count != other.Count ? Count.CompareTo(other.Count) : string.CompareOrdinal(ToString(), other.ToString())
        : obj is null ? 1 : string.CompareOrdinal(ToString(), obj.ToString());

    public bool Equals(TensorShape? other) => other is not null && _dimensions.AsSpan().SequenceEqual(other._dimensions);

    public override bool Equals(object? obj) => obj is TensorShape shape ? Equals(shape) : obj is string text && text == ToString();

    public override int GetHashCode() => ToString().GetHashCode(StringComparison.Ordinal);
}
