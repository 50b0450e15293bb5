using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification;

/// <summary>The result of comparing a tensor, or pieces of it, with its reference. The dtype is that of the saved tensor.</summary>
internal sealed class TensorComparison(LogicalTensor tensor, TensorType type)
{
    private double _actualSquares;
    private double _expectedSquares;
    private double _products;
    private double _errorSquares;
    private bool _isQuantized;
    private long _compared;
    private long _mismatches;
    private string? _firstMismatch;

    public LogicalTensor Tensor => tensor;

    /// <summary>True if its bytes must be the base's.</summary>
    public bool IsVerbatim { get; set; }

    /// <summary>Why it could not be verified; null if it was.</summary>
    public string? NotVerified { get; set; }

    /// <summary>True if the change is large enough to be seen in at least one element.</summary>
    public bool HasVisibleChange { get; private set; }

    /// <summary>The largest distance to the reference, in units of the last place of result or base, whichever is larger: where they
    /// cancel, the result has fewer digits.</summary>
    public double WorstUlps { get; private set; }

    public bool IsCorrect => _mismatches == 0 && !IsOffScale;

    /// <summary>The least squares' factor between the change and what it should be.</summary>
    private double Scale => _products / _expectedSquares;

    // Quantization hides a change in single elements, but not in their sum: its errors are independent of the change, so that the error of
    // the
    // factor is small.
    private bool IsOffScale => _isQuantized && _expectedSquares > 0
        && Math.Abs(Scale - 1) > Math.Max(0.2, 6 * Math.Sqrt(_errorSquares / _compared / _expectedSquares));

    /// <summary>Adds one element, by its row-major index. The noise is the error bound of fp32 arithmetic, the tolerance that of the
    /// format; null for half a unit of the last place.</summary>
    public void Add(double @base, double expected, double actual, double noise, double? tolerance, long index)
    {
        var ulp = PlainValues.Ulp(type, expected);
        var distance = Math.Abs(actual - expected);
        _compared++;
        if (!(distance <= (tolerance ?? (0.5 * ulp)) + noise) && !(double.IsNaN(actual) && double.IsNaN(expected)))
        {
            AddMismatch(index, $"{actual:G6} instead of {expected:G6}");
        }

        WorstUlps = double.IsNaN(distance) ? WorstUlps : Math.Max(WorstUlps, distance / Math.Max(ulp, PlainValues.Ulp(type, @base)));
        HasVisibleChange |= PlainValues.Round(type, expected) != PlainValues.Round(type, @base);
        var (a, e) = (actual - @base, expected - @base);
        _isQuantized |= tolerance is not null;
        _errorSquares += distance * distance;
        _actualSquares += a * a;
        _expectedSquares += e * e;
        _products += a * e;
    }

    /// <summary>Adds bytes that must be the base's, from byte <paramref name="start"/> of the tensor on.</summary>
    public void AddBytes(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, long start)
    {
        _compared += actual.Length;
        var same = expected.CommonPrefixLength(actual);
        if (same < actual.Length)
        {
            AddMismatch((start + same) / Math.Max(tensor.Type.Bits() / 8, 1), "other bytes than in the base");
        }
    }

    /// <summary>Adds the result of another piece of the tensor.</summary>
    public void Add(TensorComparison other)
    {
        NotVerified ??= other.NotVerified;
        HasVisibleChange |= other.HasVisibleChange;
        WorstUlps = Math.Max(WorstUlps, other.WorstUlps);
        _compared += other._compared;
        _mismatches += other._mismatches;
        _firstMismatch ??= other._firstMismatch;
        _actualSquares += other._actualSquares;
        _expectedSquares += other._expectedSquares;
        _products += other._products;
        _errorSquares += other._errorSquares;
        _isQuantized |= other._isQuantized;
    }

    /// <summary>What is wrong with an incorrect tensor: no delta, a delta of the wrong size, or an element.</summary>
    public string Diagnosis()
    {
        var isMultiple = _products * _products > 0.99 * _actualSquares * _expectedSquares || _mismatches == 0;
        return _expectedSquares > 0 && _actualSquares < 0.01 * _expectedSquares ? "it holds the base's values: the change is missing"
            : _expectedSquares > 0 && isMultiple && Math.Abs(Scale - 1) > 0.002 ? $"its change is {Scale:0.###} times what it should be"
            : _firstMismatch ?? "";
    }

    private void AddMismatch(long index, string description)
    {
        _mismatches++;
        _firstMismatch ??= $"element [{string.Join(", ", Indices(index))}] has {description}";
    }

    private long[] Indices(long index)
    {
        var indices = new long[tensor.Shape.Count];
        for (var d = indices.Length - 1; d >= 0; d--)
        {
            (index, indices[d]) = Math.DivRem(index, tensor.Shape[d]);
        }

        return indices;
    }
}
