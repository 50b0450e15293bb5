namespace UnslothMerge.Adapters.Numerics;

/// <summary>The QR decomposition with LAPACK's signs (<c>geqrf</c>, <c>orgqr</c>), which is what <c>torch.linalg.qr</c> gives.</summary>
internal static class Householder
{
    /// <summary>The factor Q [rows, columns] of a row-major matrix with at least as many rows as columns.</summary>
    public static double[] Orthogonal(double[] matrix, int rows, int columns)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, columns);
        var a = (double[])matrix.Clone();
        var taus = new double[columns];
        for (var k = 0; k < columns; k++)
        {
            taus[k] = Reflector(a, rows, columns, k);
            for (var j = k + 1; j < columns; j++)
            {
                Reflect(a, a, columns, k, j, taus[k]);
            }
        }

        var q = new double[rows * columns];
        for (var j = 0; j < columns; j++)
        {
            q[(j * columns) + j] = 1;
        }

        for (var k = columns - 1; k >= 0; k--)
        {
            for (var j = k; j < columns; j++)
            {
                Reflect(a, q, columns, k, j, taus[k]);
            }
        }

        return q;
    }

    // H = I − τ·v·vᵀ with v[k] = 1 makes column k zero below its diagonal; v is stored there. LAPACK's larfg: nothing to do, no reflection.
    private static double Reflector(double[] a, int rows, int columns, int k)
    {
        var below = 0.0;
        for (var i = k + 1; i < rows; i++)
        {
            below += a[(i * columns) + k] * a[(i * columns) + k];
        }

        if (below == 0)
        {
            return 0;
        }

        var pivot = a[(k * columns) + k];
        var beta = -Math.CopySign(Math.Sqrt((pivot * pivot) + below), pivot);
        for (var i = k + 1; i < rows; i++)
        {
            a[(i * columns) + k] /= pivot - beta;
        }

        a[(k * columns) + k] = beta;
        return (beta - pivot) / beta;
    }

    private static void Reflect(double[] reflectors, double[] target, int columns, int k, int column, double tau)
    {
        var rows = target.Length / columns;
        var sum = target[(k * columns) + column];
        for (var i = k + 1; i < rows; i++)
        {
            sum += reflectors[(i * columns) + k] * target[(i * columns) + column];
        }

        target[(k * columns) + column] -= tau * sum;
        for (var i = k + 1; i < rows; i++)
        {
            target[(i * columns) + column] -= tau * sum * reflectors[(i * columns) + k];
        }
    }
}
