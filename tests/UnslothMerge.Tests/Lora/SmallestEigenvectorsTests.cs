using MathNet.Numerics.LinearAlgebra;

namespace UnslothMerge.Tests.Lora;

public sealed class SmallestEigenvectorsTests
{
    // Few different eigenvalues make clusters; scales from tiny to large.
    private static readonly Gen<(int Seed, double[] Eigenvalues, int Count)> Cases =
        from n in Gen.Int[1, 40]
        from values in Gen.OneOf(Gen.Double[0, 1], Of(0, 0.25, 1)).Array[n]
        from scale in Of(1e-12, 1, 1e6)
        from count in Gen.Int[1, n]
        from seed in Gen.Int
        select (seed, Array.ConvertAll(values, v => v * scale), count);

    [Fact]
    public void TheyAreOrthonormalAndBelongToTheSmallestEigenvalues() => Cases.Sample(
        c =>
        {
            var n = c.Eigenvalues.Length;
            var q = Matrix<double>.Build.Random(n, n, c.Seed).QR().Q;
            var a = q * Matrix<double>.Build.DenseOfDiagonalArray(c.Eigenvalues) * q.Transpose();
            a = (a + a.Transpose()) / 2;
            var u = Matrix<double>.Build.DenseOfColumnArrays(SmallestEigenvectors.Find(a.ToRowArrays(), c.Count, new ParallelOptions()));
            var smallest = Matrix<double>.Build.DenseOfDiagonalArray([.. c.Eigenvalues.Order().Take(c.Count)]);
            var tolerance = 1e-13 * n;
            Assert.True(((u.Transpose() * u) - Matrix<double>.Build.DenseIdentity(c.Count)).L2Norm() <= tolerance, "not orthonormal");
            Assert.True(((a * u) - (u * smallest)).FrobeniusNorm() <= 10 * tolerance * c.Eigenvalues.Max(), "no eigenvectors");
        },
        iter: 300,
        threads: 1);

    private static Gen<double> Of(params double[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    [Fact]
    public void MatricesThatAreDiagonalOrZeroArePlain()
    {
        var vectors = SmallestEigenvectors.Find([[3, 0, 0], [0, 1, 0], [0, 0, 2]], 2, new ParallelOptions());
        Assert.Equal([0, 1, 0], vectors[0].Select(v => Math.Round(Math.Abs(v), 12)));
        Assert.Equal([0, 0, 1], vectors[1].Select(v => Math.Round(Math.Abs(v), 12)));
        Assert.All(SmallestEigenvectors.Find([[0, 0], [0, 0]], 2, new ParallelOptions()),
            v => Assert.Equal(1, (v[0] * v[0]) + (v[1] * v[1]), 12));
    }
}
