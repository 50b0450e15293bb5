namespace UnslothMerge.Tests.Simd;

public sealed class MagnitudesTests
{
    // Deltas that nearly cancel their weight are among them.
    private static readonly Gen<(float[] Weight, float[] Delta, double Factor)> Rows =
        from length in Gen.Int[0, 70]
        from weight in Gen.Float[-8, 8].Array[length]
        from delta in Gen.Float[-1, 1].Array[length]
        from cancels in Gen.Bool.Array[length]
        from factor in Gen.Double[0, 400]
        select (weight, delta.Select((d, i) => cancels[i] ? -weight[i] + (d / 1000) : d).ToArray(), factor);

    [Fact]
    public void Norms_are_those_of_double_arithmetic() => Rows.Sample(row =>
    {
        var expected = row.Weight.Zip(row.Delta, (w, d) => ((double)w + d) * ((double)w + d)).ToArray();
        var sums = new double[expected.Length];
        Magnitudes.AddSquares(row.Weight, row.Delta, sums);

        Assert.Equal(expected, sums);

        // The sum, its square and two additions are rounded to fp32.
        Assert.Equal(expected.Sum(), Magnitudes.SquaredNorm(row.Weight, row.Delta), 5 * MathF.ScaleB(1, -24) * expected.Sum());
    });

    [Fact]
    public void Roundings_level_out_over_a_row() => Gen.Select(Gen.Float[-1, 1].Array[4096], Gen.Float[-0.01f, 0.01f].Array[4096]).Sample(
        (weight, delta) =>
        {
            var expected = weight.Zip(delta, (w, d) => ((double)w + d) * ((double)w + d)).Sum();
            Assert.Equal(expected, Magnitudes.SquaredNorm(weight, delta), 1e-8 * expected);
        },
        iter: 50);

    [Fact]
    public void Rescaled_rows_keep_the_weight_s_own_digits() => Rows.Sample(row =>
    {
        var (one, many) = (row.Delta.ToArray(), row.Delta.ToArray());
        Magnitudes.Rescale(row.Weight, one, row.Factor);
        Magnitudes.Rescale(row.Weight, many, Array.ConvertAll(row.Weight, _ => row.Factor));

        Assert.Equal(one, many);
        for (var i = 0; i < one.Length; i++)
        {
            var expected = (row.Factor * ((double)row.Weight[i] + row.Delta[i])) - row.Weight[i];
            Assert.Equal(expected, one[i], (1.5e-7 * Math.Abs(expected)) + (1e-12 * Math.Abs(row.Weight[i])) + float.Epsilon);
        }
    });
}
