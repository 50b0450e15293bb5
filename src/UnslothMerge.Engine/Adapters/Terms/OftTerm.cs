namespace UnslothMerge.Adapters.Terms;

/// <summary>How OFT makes rotations of its parameters: the size n of a block; the coefficients of the truncated series of Q's powers, or
/// null for the exact Cayley transform; the Frobenius norm that Q is scaled down to (COFT), or null; whether the layer's output is rotated,
/// as an embedding's is, or its input.</summary>
internal sealed record OftOptions(int BlockSize, IReadOnlyList<double>? NeumannCoefficients, double? MaxNorm, bool OfOutput);

/// <summary>Each row w becomes w·Rᵀ (w·R for embeddings), R block-diagonal with rotations made of skew-symmetric matrices, whose upper
/// triangles are stored as [blocks, n(n − 1)/2]; one block alone is repeated. Source: OFT (arXiv 2306.07280) and OFTv2 (arXiv 2506.19847);
/// PEFT 0.21, <c>OFTRotationModule</c>.</summary>
internal sealed class OftTerm(string kind, StoredTensor triangles, OftOptions options, LayerLayout layout)
    : RowMapTerm(kind, [triangles], layout)
{
    public override DeltaComposition Composition => options.OfOutput ? DeltaComposition.After : DeltaComposition.Before;

    protected override long MapBytes => triangles.Shape[0] * options.BlockSize * options.BlockSize * sizeof(double);

    protected override RowMap Load(InputFiles files, Action<RowVisitor> visitRows)
    {
        var values = AdapterValues.Read(files, triangles);
        var length = (int)triangles.Shape[1];
        var blocks = new double[triangles.Shape[0]][];
        for (var i = 0; i < blocks.Length; i++)
        {
            var rotation = Rotation(values.AsSpan(i * length, length));
            blocks[i] = options.OfOutput ? rotation : Matrices.Transpose(rotation, options.BlockSize, options.BlockSize);
        }

        return new Map(new BlockDiagonal(blocks, options.BlockSize));
    }

    private double[] Rotation(ReadOnlySpan<double> triangle)
    {
        var n = options.BlockSize;
        var skew = new double[n * n];
        var (at, squares) = (0, 0.0);
        for (var i = 0; i < n; i++)
        {
            for (var j = i + 1; j < n; j++)
            {
                var value = triangle[at++];
                squares += 2 * value * value;
                skew[(i * n) + j] = value;
                skew[(j * n) + i] = -value;
            }
        }

        if (options.MaxNorm is { } limit && Math.Sqrt(squares) > limit)
        {
            TensorPrimitives.Multiply(skew, limit / Math.Sqrt(squares), skew);
        }

        return options.NeumannCoefficients is { } coefficients ? Cayley.Neumann(skew, n, coefficients) : Cayley.Exact(skew, n);
    }

    private sealed class Map(BlockDiagonal rotation) : RowMap
    {
        public override void Apply(long output, Span<double> row, Span<double> scratch)
        {
            rotation.Multiply(row, scratch);
            scratch.CopyTo(row);
        }
    }
}
