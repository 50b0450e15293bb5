using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Verification.References;

/// <summary>Some rows of a tensor's matrix in float64: as the base has them, and as the adapters make them.</summary>
/// <param name="rows">Which rows, ascending.</param>
/// <param name="columns">Their length.</param>
internal sealed class RowSet(IReadOnlyList<long> rows, int columns)
{
    /// <summary>Which rows, ascending.</summary>
    public IReadOnlyList<long> Rows => rows;

    /// <summary>Their length.</summary>
    public int Columns => columns;

    /// <summary>The base's values, row by row.</summary>
    public double[] Weight { get; init; } = new double[checked(rows.Count * columns)];

    /// <summary>What the references made of them so far, row by row.</summary>
    public double[] Values { get; init; } = new double[checked(rows.Count * columns)];

    /// <summary>What fp32 arithmetic may differ by, for each row.</summary>
    public double[] Noise { get; } = new double[rows.Count];

    /// <summary>The base's values as a matrix.</summary>
    public Matrix<double> WeightMatrix => Matrix<double>.Build.DenseOfRowMajor(rows.Count, columns, Weight);

    /// <summary>The values as a matrix.</summary>
    public Matrix<double> ValueMatrix
    {
        get => Matrix<double>.Build.DenseOfRowMajor(rows.Count, columns, Values);
        set => value.ToRowMajorArray().CopyTo(Values, 0);
    }

    /// <summary>One row of <see cref="Values"/>.</summary>
    public Span<double> Row(int i) => Values.AsSpan(i * columns, columns);

    /// <summary>The same values the other way round.</summary>
    /// <remarks>Only for all rows of a matrix.</remarks>
    public RowSet Transpose() => new([.. Enumerable.Range(0, columns).Select(i => (long)i)], rows.Count)
    {
        Weight = WeightMatrix.ToColumnMajorArray(),
        Values = ValueMatrix.ToColumnMajorArray(),
    };
}
