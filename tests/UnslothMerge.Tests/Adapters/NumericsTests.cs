namespace UnslothMerge.Tests.Adapters;

public sealed class NumericsTests
{
    [Fact]
    public void MersenneTwisterGivesTheReferenceSequence()
    {
        // The 10000th number from the default seed: C++ standard, [rand.predef].
        var generator = new MersenneTwister(5489);
        var last = 0u;
        for (var i = 0; i < 10000; i++)
        {
            last = generator.Next32();
        }

        Assert.Equal(4123659995u, last);
    }

    [Fact]
    public void NormalsAreTorchs()
    {
        // torch.manual_seed(42); torch.randn(n)
        double[] expected = [1.9269, 1.4873, 0.9007];
        Assert.All(RandomNormals.First(42, 32, inDouble: false)[..3].Zip(expected), z => Assert.Equal(z.Second, z.First, 1e-4));
    }

    [Fact]
    public void PermutationsDoNotDependOnHowManyAreAskedFor() =>
        Gen.Select(Gen.Int[1, 200], Gen.Long).Sample((length, seed) =>
        {
            var all = RandomPermutation.First(seed, length, length);
            return all.Order().SequenceEqual(Enumerable.Range(0, length).Select(i => (long)i))
                && RandomPermutation.First(seed, length, length / 2).SequenceEqual(all.Take(length / 2));
        });

    [Fact]
    public void LongPermutationsAreShuffledInsideOut() =>
        Gen.Select(Gen.Int[1, 100], Gen.Long).Sample((length, seed) =>
        {
            var generator = new MersenneTwister(seed);
            var all = new long[length];
            for (var i = 0; i < length; i++)
            {
                var place = (int)(generator.Next64() % (ulong)(i + 1));
                all[i] = all[place];
                all[place] = i;
            }

            return RandomPermutation.InsideOut(new MersenneTwister(seed), length, length / 2).SequenceEqual(all.Take(length / 2));
        });

    [Fact]
    public void OrthogonalFactorHasLapacksSigns() =>
        Gen.Select(Gen.Int[1, 6], Gen.Int[0, 5], Gen.Double[-1, 1].Array[66]).Sample((columns, more, values) =>
        {
            var rows = columns + more;
            double[] p = [.. values.Take(rows * columns).Select(v => (double)(float)v)];
            var q = Householder.Orthogonal(p, rows, columns);
            double Dot(double[] a, int i, double[] b, int j) =>
                Enumerable.Range(0, rows).Sum(k => a[(k * columns) + i] * b[(k * columns) + j]);
            for (var i = 0; i < columns; i++)
            {
                for (var j = 0; j < columns; j++)
                {
                    Assert.Equal(i == j ? 1 : 0, Dot(q, i, q, j), 1e-9);
                    Assert.True(i <= j || Math.Abs(Dot(q, i, p, j)) < 1e-9);
                }
            }

            // The first diagonal element is the norm with the other sign than the pivot; a column with nothing below its pivot is not
            // reflected.
            var isReflected = Enumerable.Range(1, rows - 1).Any(k => p[k * columns] != 0);
            Assert.Equal(isReflected ? -Math.CopySign(Math.Sqrt(Dot(p, 0, p, 0)), p[0]) : p[0], Dot(q, 0, p, 0), 1e-9);
        });

    [Theory]
    [InlineData(0.5, 0.5204998778130465)]
    [InlineData(-2, -0.9953222650189527)]
    [InlineData(4.5, 0.9999999998033839)]
    public void ErrorFunction(double x, double expected) => Assert.Equal(expected, Activations.Erf(x), 1e-15);
}
