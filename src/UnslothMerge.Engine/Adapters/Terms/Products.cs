namespace UnslothMerge.Adapters.Terms;

/// <summary>Diagonal factors.</summary>
internal static class Products
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
}
