using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>Linear algebra in double, to compare with.</summary>
internal static class Dense
{
    public static Matrix<double> Of(int rows, int columns, Func<int, int, double> value) =>
        Matrix<double>.Build.Dense(rows, columns, value);

    public static Matrix<double> Of(Numbers numbers) =>
        Of((int)numbers.Shape[0], numbers.Values.Length / (int)numbers.Shape[0], (i, j) => numbers[i, j]);

    public static Matrix<double> Identity(int n) => Matrix<double>.Build.DenseIdentity(n);

    public static Matrix<double> Product(IEnumerable<Matrix<double>> factors) => factors.Aggregate((a, b) => a * b);

    public static Matrix<double> BlockDiagonal(IEnumerable<Matrix<double>> blocks)
    {
        var all = blocks.ToList();
        var n = all[0].RowCount;
        return Of(n * all.Count, n * all.Count, (i, j) => i / n == j / n ? all[i / n][i % n, j % n] : 0);
    }

    public static Matrix<double> Cayley(Matrix<double> skew) =>
        (Identity(skew.RowCount) - skew) * (Identity(skew.RowCount) + skew).Inverse();

    /// <summary>The skew-symmetric matrix of an upper triangle that is stored row by row.</summary>
    public static Matrix<double> Skew(Numbers triangles, int block, int n)
    {
        double Above(int i, int j) => triangles.Values[(((block * n * (n - 1)) + (i * ((2 * n) - i - 1))) / 2) + j - i - 1];
        return Of(n, n, (i, j) => i < j ? Above(i, j) : i > j ? -Above(j, i) : 0);
    }

    /// <summary>Fails unless a merged tensor is this matrix.</summary>
    public static void Near(Matrix<double> expected, double[] actual) => Numbers.Near(expected.ToRowMajorArray(), actual);
}
