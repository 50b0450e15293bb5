namespace UnslothMerge.Adapters.Terms;

/// <summary>Each row w becomes s·(w·Oᵀ), with O = G_{N−1}…G₁G₀ a product of butterfly factors: block-diagonal rotations of permuted inputs.
/// Source: BOFT (arXiv 2311.06243); PEFT 0.21, <c>BOFTLayer</c>. Rotations are [N, blocks, n, n], scales one factor per output.</summary>
internal sealed class BoftTerm(string kind, StoredTensor rotations, StoredTensor scales, LayerLayout layout)
    : RowMapTerm(kind, [rotations, scales], layout)
{
    protected override long MapBytes => (rotations.Shape.Count() + scales.Shape.Count()) * sizeof(double);

    /// <summary>The order in which factor i of N sees the inputs: position p of the rotated vector comes from input order[p]. In each span
    /// of width·2ⁱ/blocks inputs, of its chunks of n/2 (n: the size of a block) the even ones come first, then the odd ones. A single
    /// factor sees them as they are.</summary>
    internal static int[] Order(int width, int size, int factor, int factors)
    {
        var order = Enumerable.Range(0, width).ToArray();
        if (factors > 1)
        {
            var (span, chunk) = (size << factor, size / 2);
            for (var p = 0; p < width; p++)
            {
                var (start, within) = (p / span * span, p % span);
                var (position, chunks) = (within / chunk, span / chunk);
                var from = position < chunks / 2 ? 2 * position : (2 * (position - (chunks / 2))) + 1;
                order[p] = start + (from * chunk) + (within % chunk);
            }
        }

        return order;
    }

    protected override RowMap Load(InputFiles files, Action<RowVisitor> visitRows)
    {
        var values = AdapterValues.Read(files, rotations);
        var (factors, blocks, n) = ((int)rotations.Shape[0], (int)rotations.Shape[1], (int)rotations.Shape[2]);
        var steps = new (BlockDiagonal Rotation, int[] Order)[factors];
        for (var i = 0; i < factors; i++)
        {
            var diagonal = new double[blocks][];
            for (var b = 0; b < blocks; b++)
            {
                diagonal[b] = Matrices.Transpose(Cayley.Exact(Skew(values.AsSpan(((i * blocks) + b) * n * n, n * n), n), n), n, n);
            }

            steps[i] = (new BlockDiagonal(diagonal, n), Order(blocks * n, n, i, factors));
        }

        return new Map(steps, AdapterValues.Read(files, scales));
    }

    private static double[] Skew(ReadOnlySpan<double> matrix, int n)
    {
        var skew = new double[n * n];
        for (var i = 0; i < n; i++)
        {
            for (var j = 0; j < n; j++)
            {
                skew[(i * n) + j] = 0.5 * (matrix[(i * n) + j] - matrix[(j * n) + i]);
            }
        }

        return skew;
    }

    private sealed class Map((BlockDiagonal Rotation, int[] Order)[] steps, double[] scales) : RowMap
    {
        // One factor: P·G·Pᵀ with P the rows of I in the factor's order, so (Pᵀx)[order[p]] = x[p] and (Py)[p] = y[order[p]].
        public override void Apply(long output, Span<double> row, Span<double> scratch)
        {
            foreach (var (rotation, order) in steps)
            {
                for (var p = 0; p < row.Length; p++)
                {
                    scratch[order[p]] = row[p];
                }

                rotation.Multiply(scratch, row);
                row.CopyTo(scratch);
                for (var p = 0; p < row.Length; p++)
                {
                    row[p] = scratch[order[p]];
                }
            }

            TensorPrimitives.Multiply(row, scales[output], row);
        }
    }
}
