using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Numerics;

/// <summary>The eigenvectors of the smallest eigenvalues of a large symmetric matrix: Householder's reduction to a tridiagonal matrix,
/// bisection for the eigenvalues, inverse iteration for the vectors. A general eigensolver would compute all of them, which takes minutes
/// where this takes seconds. Rows are worked on in parallel, each by one thread, so the result does not depend on the number of threads.
/// Source: Golub, Van Loan: Matrix Computations, 8.3 and 8.4; LAPACK's dstein.</summary>
internal static class SmallestEigenvectors
{
    private const double Epsilon = 2.220446049250313e-16;
    private const int Iterations = 5;

    /// <summary>Finds orthonormal eigenvectors, in ascending order of their eigenvalues. The matrix, all elements given, is
    /// destroyed.</summary>
    public static double[][] Find(double[][] matrix, int count, ParallelOptions options)
    {
        Scale(matrix);
        var (diagonal, off) = Tridiagonalize(matrix, options);
        var norm = Math.Max(diagonal.Max(Math.Abs) + (2 * off.Select(Math.Abs).DefaultIfEmpty().Max()), 1e-100); // not 0 for zeros
        var random = new Random(1);
        var (vectors, shift) = (new double[count][], double.NegativeInfinity);
        for (var i = 0; i < count; i++)
        {
            // At one and the same shift, what is left of the vectors found before would outgrow the new one.
            shift = Math.Max(Eigenvalue(diagonal, off, norm, i), shift + (10 * Epsilon * norm));
            var vector = Array.ConvertAll(diagonal, _ => random.NextDouble() - 0.5);
            for (var iteration = 0; iteration < Iterations; iteration++)
            {
                Solve(diagonal, off, shift, norm * Epsilon, vector);
                Orthonormalize(vector, vectors.AsSpan(0, i));
            }

            vectors[i] = vector;
        }

        foreach (var vector in vectors)
        {
            Reflect(matrix, vector);
        }

        return vectors;
    }

    // By a power of two, which changes no digit: then no product of small elements is lost, and the vectors are the same.
    private static void Scale(double[][] matrix)
    {
        var largest = matrix.Max(r => Math.Abs(TensorPrimitives.MaxMagnitude<double>(r)));
        if (largest != 0)
        {
            var exponent = -Math.ILogB(largest);
            Array.ForEach(matrix, r => TensorPrimitives.ScaleB<double>(r, exponent, r));
        }
    }

    // A → QᵀAQ with Q = H₀H₁…; the unit vector of the reflection Hₖ = I − 2vvᵀ stays in row k, right of the diagonal.
    private static (double[] Diagonal, double[] Off) Tridiagonalize(double[][] a, ParallelOptions options)
    {
        var n = a.Length;
        var (diagonal, off) = (new double[n], new double[Math.Max(n - 1, 0)]);
        var (v, q) = (new double[n], new double[n]);
        for (var k = 0; k < n; k++)
        {
            diagonal[k] = a[k][k];
            if (k == n - 1)
            {
                break;
            }

            var first = k + 1;
            var column = a[k].AsSpan(first);
            var length = FixedOrder.Norm(column);
            off[k] = column[0] > 0 ? -length : length;
            column[0] -= off[k];
            var norm = FixedOrder.Norm(column);
            if (norm == 0)
            {
                continue;
            }

            TensorPrimitives.Divide(column, norm, column);
            column.CopyTo(v.AsSpan(first));
            Parallel.For(first, n, options, i => q[i] = FixedOrder.Dot(a[i].AsSpan(first), v.AsSpan(first)));
            var product = FixedOrder.Dot(q.AsSpan(first), v.AsSpan(first));
            for (var i = first; i < n; i++)
            {
                q[i] = 2 * (q[i] - (product * v[i]));
            }

            Parallel.For(first, n, options, i =>
            {
                var row = a[i].AsSpan(first);
                TensorPrimitives.MultiplyAdd(q.AsSpan(first), -v[i], row, row);
                TensorPrimitives.MultiplyAdd(v.AsSpan(first), -q[i], row, row);
            });
        }

        return (diagonal, off);
    }

    // Bisection by the number of negative pivots of T − xI, which is the number of eigenvalues below x (Sturm).
    private static double Eigenvalue(double[] diagonal, double[] off, double norm, int index)
    {
        var (low, high) = (-norm, norm);
        while (high - low > 2 * Epsilon * norm)
        {
            var middle = low + ((high - low) / 2);
            var (below, pivot) = (0, 1.0);
            for (var i = 0; i < diagonal.Length; i++)
            {
                pivot = diagonal[i] - middle - (i == 0 ? 0 : off[i - 1] * off[i - 1] / pivot);
                pivot = Math.Abs(pivot) < Epsilon * Epsilon * norm ? -Epsilon * Epsilon * norm : pivot;
                below += pivot < 0 ? 1 : 0;
            }

            (low, high) = below > index ? (low, middle) : (middle, high);
        }

        return low;
    }

    // (T − shift·I) x = b by elimination with exchange of neighbouring rows; a pivot of zero becomes a tiny one.
    private static void Solve(double[] diagonal, double[] off, double shift, double tiny, double[] b)
    {
        var n = diagonal.Length;
        var (pivots, first, second) = (new double[n], new double[n], new double[n]);
        var (pivot, next) = (diagonal[0] - shift, n > 1 ? off[0] : 0);
        for (var i = 0; i < n - 1; i++)
        {
            var (below, belowDiagonal, belowNext) = (off[i], diagonal[i + 1] - shift, i + 2 < n ? off[i + 1] : 0);
            if (Math.Abs(below) > Math.Abs(pivot))
            {
                (pivots[i], first[i], second[i]) = (below, belowDiagonal, belowNext);
                var factor = pivot / below;
                (b[i], b[i + 1]) = (b[i + 1], b[i] - (factor * b[i + 1]));
                (pivot, next) = (next - (factor * belowDiagonal), -factor * belowNext);
            }
            else
            {
                (pivots[i], first[i]) = (Math.Abs(pivot) < tiny ? tiny : pivot, next);
                var factor = below / pivots[i];
                b[i + 1] -= factor * b[i];
                (pivot, next) = (belowDiagonal - (factor * next), belowNext);
            }
        }

        pivots[n - 1] = Math.Abs(pivot) < tiny ? tiny : pivot;
        for (var i = n - 1; i >= 0; i--)
        {
            b[i] = (b[i] - (i + 1 < n ? first[i] * b[i + 1] : 0) - (i + 2 < n ? second[i] * b[i + 2] : 0)) / pivots[i];
        }
    }

    // Twice, because the first pass leaves rounding errors where vectors were nearly parallel.
    private static void Orthonormalize(double[] vector, ReadOnlySpan<double[]> others)
    {
        TensorPrimitives.Divide(vector, FixedOrder.Norm(vector), vector);
        for (var pass = 0; pass < 2; pass++)
        {
            foreach (var other in others)
            {
                TensorPrimitives.MultiplyAdd(other, -FixedOrder.Dot(other, vector), vector, vector);
            }

            TensorPrimitives.Divide(vector, FixedOrder.Norm(vector), vector);
        }
    }

    private static void Reflect(double[][] reflections, double[] vector)
    {
        for (var k = vector.Length - 2; k >= 0; k--)
        {
            var v = reflections[k].AsSpan(k + 1);
            var part = vector.AsSpan(k + 1);
            TensorPrimitives.MultiplyAdd(v, -2 * FixedOrder.Dot(v, part), part, part);
        }
    }
}
