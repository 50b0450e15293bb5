using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Verification.References;

/// <summary>Some rows of a tensor's matrix in float64, by ascending number: as the base has them, and as the adapters make them.</summary>
internal sealed class RowSet(IReadOnlyList<long> rows, int columns)
{
    public IReadOnlyList<long> Rows => rows;

    public int Columns => columns;

    /// <summary>The base's values, row by row.</summary>
    public double[] Weight { get; init; } = new double[checked(rows.Count * columns)];

    /// <summary>The values after the references applied so far, row by row.</summary>
    public double[] Values { get; init; } = new double[checked(rows.Count * columns)];

    /// <summary>The error bound of fp32 arithmetic for each row.</summary>
    public double[] Noise { get; } = new double[rows.Count];

    public Matrix<double> WeightMatrix => Matrix<double>.Build.DenseOfRowMajor(rows.Count, columns, Weight);

    public Matrix<double> ValueMatrix
    {
        get => Matrix<double>.Build.DenseOfRowMajor(rows.Count, columns, Values);
        set => value.ToRowMajorArray().CopyTo(Values, 0);
    }

    /// <summary>Consecutive rows.</summary>
    public static RowSet OfRange(long first, long count, int columns) => new(Range(first, count), columns);

    /// <summary>The numbers of consecutive rows.</summary>
    public static long[] Range(long first, long count) => [.. Enumerable.Range(0, checked((int)count)).Select(i => first + i)];

    /// <summary>One row of <see cref="Values"/>.</summary>
    public Span<double> Row(int i) => Values.AsSpan(i * columns, columns);

    /// <summary>The transposed matrix; the set must hold all rows.</summary>
    public RowSet Transpose() => new(Range(0, columns), rows.Count)
    {
        Weight = WeightMatrix.ToColumnMajorArray(),
        Values = ValueMatrix.ToColumnMajorArray(),
    };
}
