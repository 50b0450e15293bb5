using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Simd;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Drops the r smallest singular components of a weight, then adds scaling · B [out, r] · diag(d) · A [r, in]. In double: with M
/// the weight or its transpose, whichever has fewer rows, and U the eigenvectors of M·Mᵀ with the r smallest eigenvalues, what is dropped
/// is U·(UᵀM). Source: KaSA (arXiv 2412.06071); PEFT 0.21, <c>KasaLinearVariant</c>.</summary>
internal sealed class KasaTerm(StoredTensor left, StoredTensor diagonal, StoredTensor right, double scaling)
    : DeltaTerm("KaSA", [right, diagonal, left])
{
    private readonly int _rank = checked((int)right.Shape[0]);

    public override int? Rank => _rank;

    public override double Scaling => scaling;

    public override bool IsAdditive => false;

    public override DeltaReach Reach => DeltaReach.WholeTensor;

    /// <summary>The weight, M·Mᵀ and the factors, all in double.</summary>
    public override long ResidentBytes
    {
        get
        {
            var (rows, columns) = (left.Shape[0], right.Shape[1]);
            var small = Math.Min(rows, columns);
            return sizeof(double) * ((rows * columns) + (small * small) + (2 * _rank * (rows + columns)));
        }
    }

    public override DeltaReader Open(DeltaContext context)
    {
        var (droppedLeft, droppedRight) = SmallestComponents(context, _rank);
        float[] Values(StoredTensor tensor) => AdapterValues.ReadFloats(context.Files, tensor);
        var (a, b, d) = (Values(right), Values(left), Values(diagonal));

        // One product of twice the rank: [-U | s·B·diag(d)] · [UᵀM; A].
        var rows = droppedLeft.Select((u, i) => (double[])[.. u.Select(v => -v), .. d.Select((v, k) => scaling * b[(i * _rank) + k] * v)])
            .ToArray();
        var columns = (double[][])[.. droppedRight, .. a.Chunk(a.Length / _rank).Select(row => Array.ConvertAll(row, v => (double)v))];
        return new Reader(rows, columns);
    }

    // The sum of the r smallest singular components as [rows][r] times [r][columns].
    private static (double[][] Left, double[][] Right) SmallestComponents(DeltaContext context, int rank)
    {
        var (rows, columns) = (checked((int)context.View.Rows), context.View.Columns);
        var transposed = rows > columns;
        var (small, large) = transposed ? (columns, rows) : (rows, columns);
        var m = new double[small][];
        for (var i = 0; i < small; i++)
        {
            m[i] = new double[large];
        }

        context.Scan(tile =>
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var row = (int)tile.Row + i;
                var weight = tile.WeightRow(i);
                for (var j = 0; j < columns; j++)
                {
                    (transposed ? ref m[j][row] : ref m[row][j]) = weight[j];
                }
            }
        });

        var gram = new double[small][];
        var options = new ParallelOptions { MaxDegreeOfParallelism = context.Workers };
        Parallel.For(0, small, options, i => gram[i] = Array.ConvertAll(m, other => FixedOrder.Dot(m[i], other)));
        var u = SmallestEigenvectors.Find(gram, rank, options);
        var projected = new double[rank][];
        for (var k = 0; k < rank; k++)
        {
            projected[k] = new double[large];
            for (var i = 0; i < small; i++)
            {
                TensorPrimitives.MultiplyAdd(m[i], u[k][i], projected[k], projected[k]);
            }
        }

        return transposed ? (Transpose(projected), u) : (Transpose(u), projected);
    }

    private static double[][] Transpose(double[][] matrix) =>
        [.. Enumerable.Range(0, matrix[0].Length).Select(j => Array.ConvertAll(matrix, row => row[j]))];

    private sealed class Reader(double[][] left, double[][] right) : DeltaReader
    {
        public override void Apply(ReadOnlySpan<byte> buffer, long row, Tile tile)
        {
            for (var i = 0; i < tile.Rows; i++)
            {
                var factors = left[tile.Row + i];
                var delta = tile.DeltaRow(i);
                for (var j = 0; j < delta.Length; j++)
                {
                    var change = (double)delta[j];
                    for (var k = 0; k < factors.Length; k++)
                    {
                        change += factors[k] * right[k][tile.Column + j];
                    }

                    delta[j] = (float)change;
                }
            }
        }
    }
}
