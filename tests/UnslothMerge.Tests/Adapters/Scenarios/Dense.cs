namespace UnslothMerge.Tests.Adapters.Scenarios;

/// <summary>Textbook linear algebra in double, to compare with.</summary>
internal static class Dense
{
    public static double[,] Of(Values values) =>
        Of((int)values.Shape[0], values.Numbers.Length / (int)values.Shape[0],
            (i, j) => values.Numbers[(i * (values.Numbers.Length / (int)values.Shape[0])) + j]);

    public static double[,] Of(int rows, int columns, Func<int, int, double> value)
    {
        var matrix = new double[rows, columns];
        for (var i = 0; i < rows; i++)
        {
            for (var j = 0; j < columns; j++)
            {
                matrix[i, j] = value(i, j);
            }
        }

        return matrix;
    }

    public static double[,] Identity(int n) => Of(n, n, (i, j) => i == j ? 1 : 0);

    public static double[,] Transpose(double[,] a) => Of(a.GetLength(1), a.GetLength(0), (i, j) => a[j, i]);

    public static double[,] Sum(double[,] a, double[,] b, double factor = 1) =>
        Of(a.GetLength(0), a.GetLength(1), (i, j) => a[i, j] + (factor * b[i, j]));

    public static double[,] Times(params double[][,] factors) => factors.Aggregate((a, b) => Of(a.GetLength(0), b.GetLength(1), (i, j) =>
    {
        var sum = 0.0;
        for (var k = 0; k < b.GetLength(0); k++)
        {
            sum += a[i, k] * b[k, j];
        }

        return sum;
    }));

    public static double[,] BlockDiagonal(IReadOnlyList<double[,]> blocks)
    {
        var n = blocks[0].GetLength(0);
        return Of(n * blocks.Count, n * blocks.Count, (i, j) => i / n == j / n ? blocks[i / n][i % n, j % n] : 0);
    }

    /// <summary>Gauss-Jordan with pivots.</summary>
    public static double[,] Inverse(double[,] matrix)
    {
        var n = matrix.GetLength(0);
        var work = Of(n, 2 * n, (i, j) => j < n ? matrix[i, j] : i == j - n ? 1 : 0);
        for (var k = 0; k < n; k++)
        {
            var pivot = Enumerable.Range(k, n - k).MaxBy(i => Math.Abs(work[i, k]));
            for (var j = 0; j < 2 * n; j++)
            {
                (work[k, j], work[pivot, j]) = (work[pivot, j], work[k, j]);
            }

            var scale = 1 / work[k, k];
            for (var j = 0; j < 2 * n; j++)
            {
                work[k, j] *= scale;
            }

            for (var i = 0; i < n; i++)
            {
                var factor = i == k ? 0 : work[i, k];
                for (var j = 0; j < 2 * n; j++)
                {
                    work[i, j] -= factor * work[k, j];
                }
            }
        }

        return Of(n, n, (i, j) => work[i, j + n]);
    }

    public static double[,] Cayley(double[,] skew)
    {
        var one = Identity(skew.GetLength(0));
        return Times(Sum(one, skew, -1), Inverse(Sum(one, skew)));
    }

    public static double[] Flat(double[,] matrix) => [.. matrix.Cast<double>()];
}
