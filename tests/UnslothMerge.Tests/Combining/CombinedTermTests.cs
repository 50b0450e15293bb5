namespace UnslothMerge.Tests.Combining;

/// <summary>A combination is that of whole tensors in double, however the tensor is cut.</summary>
public sealed class CombinedTermTests
{
    public static IReadOnlyCollection<ITheoryDataRow> Types =>
        new TheoryData<CombinationType>(
            CombinationType.Ties, CombinationType.DareLinear, CombinationType.DareTies, CombinationType.MagnitudePrune);

    // Few different values, so that magnitudes are equal at the cut and sums cancel exactly.
    private static readonly Gen<float> Coarse = Gen.Int[-3, 3].Select(v => v * 0.25f);
    private static readonly Gen<double> Dyadic = Gen.Int[-2, 4].Select(v => v * 0.5);
    private static readonly Gen<float> Fine = Gen.Float[-1, 1];

    [Theory, MemberData(nameof(Types))]
    internal void IsTheCombinationOfWholeTensors(CombinationType type) =>
        Gen.Select(Gen.Int[1, 9], Gen.Int[1, 17], Gen.Int[1, 4], Gen.Bool).SelectMany((rows, columns, adapters, coarse) =>
            Gen.Select(
                Gen.Const((rows, columns, coarse)),
                Gen.Select(coarse ? Dyadic : Gen.OneOf(Dyadic, Gen.Double[-1, 1]), (coarse ? Coarse : Fine).Array[rows * columns],
                    Coarse.Array[rows * columns]).Array[adapters],
                coarse ? Gen.Int[0, 3].Select(v => Math.ScaleB(1, -v)) : Gen.Double[0.01, 1],
                Gen.Select(Gen.Int, Gen.Int[1, 9], Gen.Int[1, 9], Gen.Int[1, 17]))).Sample((shape, deltas, density, cut) =>
        {
            // Where weights of both signs nearly cancel, so does what their mean is divided by: no precision is left to compare.
            if (type is CombinationType.Ties && !shape.coarse)
            {
                deltas = [.. deltas.Select(d => (0.1 + Math.Abs(d.Item1), d.Item2, d.Item3))];
            }

            // Every adapter has two terms; their sum is its delta.
            var (seed, scanHeight, tileHeight, tileWidth) = cut;
            List<(double, double[])> given =
                [.. deltas.Select(d => (d.Item1, d.Item2.Zip(d.Item3, (a, b) => Exact(d.Item1, a, b)).ToArray()))];
            var reference = CombinationReference.Combine(type, density, seed, "w", given);
            var totals = CombinationReference.Combine(type is CombinationType.Ties
                ? CombinationType.MagnitudePrune : type is CombinationType.DareTies
                ? CombinationType.DareLinear : type, density, seed, "w", given);
            var term = new CombinedTerm(type, density, seed, "w",
                [.. deltas.Select((d, i) =>
                    new AdapterDelta(i, d.Item1, [new GivenTerm(d.Item2, shape.columns), new GivenTerm(d.Item3, shape.columns)]))]);
            var actual = Apply(term, new MatrixView(shape.rows, shape.columns), -1.5, scanHeight, tileHeight, tileWidth);
            for (var i = 0; i < reference.Length; i++)
            {
                // Coarse numbers are exact, also where they cancel; of others, rounding may decide the sign of what nearly does.
                var slack = 4e-6 / density;
                if (shape.coarse || Math.Abs(totals[i]) > slack)
                {
                    Assert.InRange(actual[i], (-1.5 * reference[i]) - slack, (-1.5 * reference[i]) + slack);
                }
            }
        });

    [Theory, MemberData(nameof(Types))]
    internal void DoesNotDependOnTheCut(CombinationType type) =>
        Gen.Select(Fine.Array[99], Fine.Array[99], Gen.Int[1, 11], Gen.Int[1, 11], Gen.Int[1, 9])
            .Sample((a, b, scanHeight, tileHeight, tileWidth) =>
        {
            var term = new CombinedTerm(type, 0.4, 7, "w",
                [new AdapterDelta(0, 0.7, [new GivenTerm(a, 9)]), new AdapterDelta(3, -0.4, [new GivenTerm(b, 9)])]);
            var view = new MatrixView(11, 9);
            Assert.Equal(Apply(term, view, 1, 11, 11, 9), Apply(term, view, 1, scanHeight, tileHeight, tileWidth));
        });

    [Theory, MemberData(nameof(Types))]
    internal void WhatIsNotFiniteIsNotLost(CombinationType type)
    {
        foreach (var value in new[] { float.NaN, float.NegativeInfinity })
        {
            float[] broken = [1, value, 2, 3];
            var term = new CombinedTerm(type, 1, 0, "w",
                [new AdapterDelta(0, 1, [new GivenTerm(broken, 4)]), new AdapterDelta(1, 1, [new GivenTerm([5, 5, 5, 5], 4)])]);
            Assert.False(float.IsFinite(Apply(term, new MatrixView(1, 4), 1, 1, 1, 4)[1]));
        }
    }

    // What a term computes: weights and sums in fp32, so that equal magnitudes are equal in the reference too.
    private static double Exact(double weight, float a, float b) =>
        weight == 0 ? 0 : ((double)((float)(a * weight) + (float)(b * weight))) / weight;

    private static float[] Apply(CombinedTerm term, MatrixView view, double factor, int scanHeight, int tileHeight, int tileWidth)
    {
        using var files = new InputFiles();
        using var reader = term.Open(new GivenContext(files, view, factor, scanHeight));
        var result = new float[view.Count];

        // Pieces of two tiles' height, as a worker takes them.
        for (var first = 0; first < view.Rows; first += 2 * tileHeight)
        {
            var rows = (int)Math.Min(2 * tileHeight, view.Rows - first);
            var buffer = new byte[term.BytesOf(rows)];
            reader.Read(first, rows, buffer);
            for (var row = first; row < first + rows; row += tileHeight)
            {
                for (var column = 0; column < view.Columns; column += tileWidth)
                {
                    var (height, width) = (Math.Min(tileHeight, first + rows - row), Math.Min(tileWidth, view.Columns - column));
                    var tile = new Tile(new float[height * width], new float[height * width], row, height, column, width);
                    reader.Apply(buffer, first, tile);
                    for (var i = 0; i < height; i++)
                    {
                        tile.DeltaRow(i).CopyTo(result.AsSpan(((row + i) * view.Columns) + column));
                    }
                }
            }
        }

        return result;
    }
}
