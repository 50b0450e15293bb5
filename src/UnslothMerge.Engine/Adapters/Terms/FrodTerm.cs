using MathNet.Numerics.LinearAlgebra.Double;
using MathNet.Numerics.LinearAlgebra.Factorization;

namespace UnslothMerge.Adapters.Terms;

/// <summary>Δ = U(S + diag(λ))Vᵀ − W, where U is W·V⁻ᵀ with unit columns and S is sparse. Where W has fewer rows than columns, some columns
/// of W·V⁻ᵀ are nothing but the rounding of the stored V, made a unit; only the stored values in double lead to the same U. Source: FRoD;
/// PEFT 0.21, <c>FrodLayer</c>.</summary>
internal sealed class FrodTerm(string kind, FrodTensors tensors, LayerLayout layout) : RowMapTerm(kind, tensors.All, layout)
{
    // Source: FrodLayer._calculate_frod_u_and_lambda.
    private const double Zero = 1e-12;

    private readonly int _n = checked((int)layout.Inputs);

    public override DeltaComposition Composition => DeltaComposition.Sum;

    public override DeltaReach Reach => Layout.InputFirst ? DeltaReach.WholeTensor : DeltaReach.ReducingPass;

    protected override long MapBytes => 3L * _n * _n * sizeof(double);

    protected override RowMap Load(InputFiles files, Action<RowVisitor> visitRows)
    {
        var v = AdapterValues.Read(files, tensors.V);
        var factors = DenseMatrix.Create(_n, _n, (i, j) => v[(i * _n) + j]).LU();
        if (factors.U.Diagonal().Any(d => d == 0))
        {
            throw new MergeException(
                MergeError.InvalidAdapter, $"The adapter tensor '{tensors.V.Name}' is a singular matrix, which FRoD cannot invert.",
                tensors.V.File.Path);
        }

        var squares = new double[_n];
        var solved = new DenseVector(_n);
        visitRows((_, row) =>
        {
            factors.Solve(new DenseVector(row.ToArray()), solved);
            TensorPrimitives.FusedMultiplyAdd(solved.Values, solved.Values, squares, squares);
        });

        return new Map(
            factors,
            Array.ConvertAll(squares, q => Math.Sqrt(q) > Zero ? 1 / Math.Sqrt(q) : 0),
            AdapterValues.Read(files, tensors.Diagonal),
            AdapterValues.Read(files, tensors.SparseValues),
            AdapterValues.ReadIndices(files, tensors.SparseIndices, _n),
            Matrices.Transpose(v, _n, _n));
    }

    private sealed class Map(LU<double> v, double[] scales, double[] diagonal, double[] sparse, int[] indices, double[] transposed) : RowMap
    {
        public override void Apply(long output, Span<double> row, Span<double> scratch)
        {
            var solved = new DenseVector(row.Length);
            v.Solve(new DenseVector(row.ToArray()), solved);
            var u = solved.Values;
            TensorPrimitives.Multiply(u, scales, u);
            TensorPrimitives.Multiply(u, diagonal, scratch);
            for (var i = 0; i < sparse.Length; i++)
            {
                scratch[indices[sparse.Length + i]] += u[indices[i]] * sparse[i];
            }

            row.Clear();
            for (var j = 0; j < row.Length; j++)
            {
                TensorPrimitives.FusedMultiplyAdd(transposed.AsSpan(j * row.Length, row.Length), scratch[j], row, row);
            }
        }
    }
}

/// <summary>The tensors of FRoD: V [in, in], shared by modules of one category, as are the rows and columns of S [2, n]; the shape of S
/// [2]; λ [in]; the values of S [n].</summary>
internal sealed record FrodTensors(
    StoredTensor V, StoredTensor SparseIndices, StoredTensor Size, StoredTensor Diagonal, StoredTensor SparseValues)
{
    /// <summary>All of them.</summary>
    public IReadOnlyList<StoredTensor> All => [V, SparseIndices, Size, Diagonal, SparseValues];
}
