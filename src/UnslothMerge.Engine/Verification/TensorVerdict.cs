using UnslothMerge.Planning;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Verification;

/// <summary>What the comparison of a tensor with its reference has found so far.</summary>
/// <param name="tensor">The tensor.</param>
internal sealed class TensorVerdict(LogicalTensor tensor)
{
    private double _actualSquares;
    private double _expectedSquares;
    private double _products;
    private double _errorSquares;
    private bool _isQuantized;

    /// <summary>The tensor.</summary>
    public LogicalTensor Tensor => tensor;

    /// <summary>The dtype or format that it has in the output.</summary>
    public string Format { get; set; } = "";

    /// <summary>True if its bytes must be the base's.</summary>
    public bool IsVerbatim { get; set; }

    /// <summary>Why it could not be verified; null if it was.</summary>
    public string? NotVerified { get; set; }

    /// <summary>The elements that were compared.</summary>
    public long Compared { get; private set; }

    /// <summary>How many of them are not what they should be.</summary>
    public long Wrong { get; private set; }

    /// <summary>True if the change shows in at least one of them.</summary>
    public bool Moves { get; private set; }

    /// <summary>The largest distance to the reference, in units of the last place of result or base, whichever is larger: where they cancel, what is left has no digits of its own.</summary>
    public double WorstUlps { get; private set; }

    /// <summary>Where the first wrong element is, and what it is.</summary>
    public string? FirstWrong { get; private set; }

    /// <summary>True if all that was compared is right.</summary>
    public bool IsRight => Wrong == 0 && !IsOffScale;

    /// <summary>What the change is times what it should be: the least squares' factor.</summary>
    private double Scale => _products / _expectedSquares;

    // Errors of quantization hide a change in single elements, but not in all of them: they are independent of it, so that the factor's own error is small.
    private bool IsOffScale => _isQuantized && _expectedSquares > 0 && Math.Abs(Scale - 1) > Math.Max(0.2, 6 * Math.Sqrt(_errorSquares / Compared / _expectedSquares));

    /// <summary>Takes one element.</summary>
    /// <param name="type">The dtype it is stored in.</param>
    /// <param name="base">The base's value.</param>
    /// <param name="expected">What it should be.</param>
    /// <param name="actual">What it is.</param>
    /// <param name="noise">What fp32 arithmetic may differ by.</param>
    /// <param name="slack">What the format may differ by; null for half a unit of the last place.</param>
    /// <param name="place">Where it is.</param>
    public void Add(TensorType type, double @base, double expected, double actual, double noise, double? slack, long place)
    {
        var ulp = PlainValues.Ulp(type, expected);
        var distance = Math.Abs(actual - expected);
        Compared++;
        if (!(distance <= (slack ?? (0.5 * ulp)) + noise) && !(double.IsNaN(actual) && double.IsNaN(expected)))
        {
            Miss(place, $"{actual:G6} instead of {expected:G6}");
        }

        WorstUlps = double.IsNaN(distance) ? WorstUlps : Math.Max(WorstUlps, distance / Math.Max(ulp, PlainValues.Ulp(type, @base)));
        Moves |= PlainValues.Round(type, expected) != PlainValues.Round(type, @base);
        var (a, e) = (actual - @base, expected - @base);
        _isQuantized |= slack is not null;
        _errorSquares += (actual - expected) * (actual - expected);
        (_actualSquares, _expectedSquares, _products) = (_actualSquares + (a * a), _expectedSquares + (e * e), _products + (a * e));
    }

    /// <summary>Takes bytes that must be the base's.</summary>
    public void AddBytes(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, long start)
    {
        Compared += actual.Length;
        var same = expected.CommonPrefixLength(actual);
        if (same < actual.Length)
        {
            var byteWidth = Math.Max(tensor.Type.Bits() / 8, 1);
            Miss((start + same) / byteWidth, "other bytes than in the base");
        }
    }

    /// <summary>Adds what another piece of the tensor has found.</summary>
    public void Add(TensorVerdict other)
    {
        Compared += other.Compared;
        Wrong += other.Wrong;
        Moves |= other.Moves;
        WorstUlps = Math.Max(WorstUlps, other.WorstUlps);
        FirstWrong ??= other.FirstWrong;
        _actualSquares += other._actualSquares;
        _expectedSquares += other._expectedSquares;
        _products += other._products;
        _errorSquares += other._errorSquares;
        _isQuantized |= other._isQuantized;
    }

    /// <summary>What looks wrong about a wrong tensor: a delta of the wrong size, or none.</summary>
    public string Diagnosis()
    {
        var isMultiple = _products * _products > 0.99 * _actualSquares * _expectedSquares || Wrong == 0;
        return _expectedSquares > 0 && _actualSquares < 0.01 * _expectedSquares ? "it holds the base's values: the change is missing"
            : _expectedSquares > 0 && isMultiple && Math.Abs(Scale - 1) > 0.002 ? $"its change is {Scale:0.###} times what it should be"
            : FirstWrong ?? "";
    }

    private void Miss(long place, string what)
    {
        Wrong++;
        FirstWrong ??= $"element [{string.Join(", ", Index(place))}] has {what}";
    }

    private long[] Index(long place)
    {
        var index = new long[tensor.Shape.Count];
        for (var d = index.Length - 1; d >= 0; d--)
        {
            (index[d], place) = (place % tensor.Shape[d], place / tensor.Shape[d]);
        }

        return index;
    }
}
