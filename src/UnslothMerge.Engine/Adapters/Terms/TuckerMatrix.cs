namespace UnslothMerge.Adapters.Terms;

/// <summary>A factor of LyCORIS' kinds: a·b with a [out, r] and b [r, in·k…]; or, where there is a core t [r, r, k…], with a [r, out] and b
/// [r, in], the values [o, c, k…] = Σ t[i, j, k…]·b[j, c]·a[i, o]. Source: LyCORIS; PEFT 0.21, <c>make_weight_cp</c>. A is the factor of
/// the outputs, B that of the inputs.</summary>
internal sealed record TuckerMatrix(StoredTensor A, StoredTensor B, StoredTensor? Core)
{
    /// <summary>The outputs.</summary>
    public int Rows => (int)A.Shape[Core is null ? 0 : 1];

    /// <summary>The inputs times the kernel.</summary>
    public int Columns => (int)B.Shape[1] * Kernel;

    /// <summary>The rank.</summary>
    public int Rank => (int)B.Shape[0];

    /// <summary>The tensors.</summary>
    public IReadOnlyList<StoredTensor> Inputs => Core is null ? [A, B] : [A, B, Core];

    /// <summary>The bytes that are held beside the tensors in double.</summary>
    public long ExtraBytes => Core is null ? 0 : (long)Rank * Columns * sizeof(double);

    private int Kernel => Core is null ? 1 : (int)Core.Shape.Skip(2).Aggregate(1L, (x, y) => x * y);

    /// <summary>Finds the tensors among a module's.</summary>
    public static TuckerMatrix Of(AdaptedModule module, string a, string b, string core)
    {
        var matrix = new TuckerMatrix(module.Numbers(a, 2), module.Numbers(b, 2), module.OptionalNumbers(core, 4));
        var rank = matrix.A.Shape[matrix.Core is null ? 1 : 0];
        AdaptedModule.Require(
            matrix.Rank == rank && (matrix.Core is null || (matrix.Core.Shape[0] == rank && matrix.Core.Shape[1] == rank)),
            $"{a} {matrix.A.Shape.Text()}, {b} {matrix.B.Shape.Text()}"
            + $"{(matrix.Core is null ? "" : $" and {core} {matrix.Core.Shape.Text()}")} are not of one rank");
        return matrix;
    }

    /// <summary>Loads it.</summary>
    public DeltaMatrix Open(DeltaContext from)
    {
        var (a, b) = (from.Read(A), from.Read(B));
        return Core is null
            ? new ProductMatrix(a, b, Rank, Columns)
            : new ProductMatrix(Matrices.Transpose(a, Rank, Rows), WithKernel(from.Read(Core), b), Rank, Columns);
    }

    // right[i, (c, k)] = Σ_j core[i, j, k]·b[j, c]
    private double[] WithKernel(double[] core, double[] b)
    {
        var (rank, inputs, kernel) = (Rank, (int)B.Shape[1], Kernel);
        var right = new double[rank * inputs * kernel];
        for (var i = 0; i < rank; i++)
        {
            for (var j = 0; j < rank; j++)
            {
                var stencil = core.AsSpan(((i * rank) + j) * kernel, kernel);
                for (var c = 0; c < inputs; c++)
                {
                    var target = right.AsSpan(((i * inputs) + c) * kernel, kernel);
                    TensorPrimitives.FusedMultiplyAdd(stencil, b[(j * inputs) + c], target, target);
                }
            }
        }

        return right;
    }
}
