using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;

namespace UnslothMerge.Adapters.Terms;

/// <summary>The m smallest singular components of W [out, in] give way to U·diag(S)·V. With P the projection on the m lowest singular
/// directions of W's shorter side, W' = W − W·P + U·diag(S)·V (or − P·W); P does not depend on the signs that an SVD happens to choose.
/// Source: OSF (arXiv 2504.07097); PEFT 0.21, <c>OSFLayer</c>. U is [out, m], S [m], V [m, in].</summary>
internal sealed class OsfTerm(string kind, StoredTensor u, StoredTensor s, StoredTensor v) : DeltaTerm(kind, [u, s, v])
{
    private readonly int _outputs = checked((int)u.Shape[0]);
    private readonly int _inputs = checked((int)v.Shape[1]);
    private readonly int _low = checked((int)s.Shape[0]);

    public override int? Rank => _low;

    public override bool IsAdditive => false;

    public override DeltaReach Reach => DeltaReach.WholeTensor;

    // The matrix in double, its product with the projection, and the decomposition of its shorter side.
    public override long ResidentBytes =>
        ((3L * _outputs * _inputs) + (4L * Math.Min(_outputs, _inputs) * Math.Min(_outputs, _inputs))) * sizeof(double);

    public override DeltaReader Open(DeltaContext context)
    {
        var weight = new DenseMatrix(_outputs, _inputs);
        context.Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var row = tile.WeightRow(i);
                for (var c = 0; c < row.Length; c++)
                {
                    weight.At((int)tile.Row + i, c, row[c]);
                }
            }
        });

        if (_low > 0)
        {
            ReplaceLow(weight, context.Files);
        }

        return new Reader(weight);
    }

    private void ReplaceLow(DenseMatrix weight, InputFiles files)
    {
        if (!Array.TrueForAll(weight.Values, double.IsFinite))
        {
            throw new MergeException(
                MergeError.InvalidModel, $"The weight that '{u.Name}' belongs to holds NaN or Inf: it has no singular components.", u.Name,
                "Download the base again, or use another.");
        }

        // The shorter side's Gram matrix has all singular directions of W; eigenvalues come in ascending order.
        var byInput = _inputs <= _outputs;
        var gram = byInput ? weight.TransposeThisAndMultiply(weight) : weight.TransposeAndMultiply(weight);
        var lowest = gram.Evd(Symmetricity.Symmetric).EigenVectors.SubMatrix(0, gram.RowCount, 0, _low);
        var low = byInput ? (weight * lowest).TransposeAndMultiply(lowest) : lowest * lowest.TransposeThisAndMultiply(weight);

        var left = Matrix(files, u, _outputs, _low);
        var right = Matrix(files, v, _low, _inputs);
        var scales = AdapterValues.Read(files, s);
        left.MapIndexedInplace((_, j, value) => value * scales[j]);
        weight.Subtract(low, weight);
        weight.Add(left * right, weight);
    }

    private static DenseMatrix Matrix(InputFiles files, StoredTensor tensor, int rows, int columns)
    {
        var values = AdapterValues.Read(files, tensor);
        return DenseMatrix.Create(rows, columns, (i, j) => values[(i * columns) + j]);
    }

    private sealed class Reader(DenseMatrix result) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var weights = tile.WeightRow(i);
                var deltas = tile.DeltaRow(i);
                for (var c = 0; c < weights.Length; c++)
                {
                    TileValue.Set(ref weights[c], ref deltas[c], result.At((int)tile.Row + i, tile.Column + c));
                }
            }
        }
    }
}
