namespace UnslothMerge.Adapters.Terms;

/// <summary>Small dense matrices in double, row-major.</summary>
internal static class Matrices
{
    /// <summary>M·diag(factors), in place, for M [rows, columns].</summary>
    public static double[] ScaleColumns(double[] matrix, ReadOnlySpan<double> factors)
    {
        for (var i = 0; i < matrix.Length; i++)
        {
            matrix[i] *= factors[i % factors.Length];
        }

        return matrix;
    }

    /// <summary>diag(factors)·M, in place, for M [rows, columns].</summary>
    public static double[] ScaleRows(double[] matrix, ReadOnlySpan<double> factors)
    {
        var columns = factors.Length == 0 ? 0 : matrix.Length / factors.Length;
        for (var i = 0; i < matrix.Length; i++)
        {
            matrix[i] *= factors[i / columns];
        }

        return matrix;
    }

    /// <summary>The transpose of a matrix [rows, columns].</summary>
    public static double[] Transpose(double[] matrix, int rows, int columns)
    {
        var result = new double[matrix.Length];
        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns; column++)
            {
                result[(column * rows) + row] = matrix[(row * columns) + column];
            }
        }

        return result;
    }

    /// <summary>left · right, with left [rows, inner] and right [inner, columns].</summary>
    public static double[] Multiply(double[] left, double[] right, int rows, int inner, int columns)
    {
        var product = new double[rows * columns];
        new ProductMatrix(left, right, inner, columns).Fill(new Block(0, rows, 0, columns), product);
        return product;
    }
}
