using MathNet.Numerics.LinearAlgebra.Double;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Rotations from skew-symmetric matrices, in double. Matrices are [n, n], row-major.</summary>
internal static class Cayley
{
    /// <summary>(I − Q)(I + Q)⁻¹.</summary>
    public static double[] Exact(double[] skew, int n)
    {
        // I + Q has no eigenvalue below 1, and the two factors commute.
        var plus = DenseMatrix.Create(n, n, (i, j) => (i == j ? 1 : 0) + skew[(i * n) + j]);
        var minus = DenseMatrix.Create(n, n, (i, j) => (i == j ? 1 : 0) - skew[(i * n) + j]);
        return plus.LU().Solve(minus).ToRowMajorArray();
    }

    /// <summary>I + Σ cₖQᵏ, k ≥ 1, for Q [n, n]: a truncated Neumann series of the exact rotation.</summary>
    public static double[] Neumann(double[] skew, int n, IReadOnlyList<double> coefficients)
    {
        var q = DenseMatrix.Create(n, n, (i, j) => skew[(i * n) + j]);
        var sum = DenseMatrix.CreateIdentity(n);
        var power = DenseMatrix.CreateIdentity(n);
        foreach (var coefficient in coefficients)
        {
            power *= q;
            sum += coefficient * power;
        }

        return sum.ToRowMajorArray();
    }
}
