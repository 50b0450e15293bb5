using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoKr: W + kron(w1, w2)·alpha/r. w1 is stored whole or as a product, w2 whole, as a product, or as a Tucker decomposition; whole
/// factors do not show the rank, so it is the config's. Source: LyCORIS (arXiv 2309.14859); PEFT 0.21, <c>lokr</c>.</summary>
internal sealed class LoKr() : MatrixKind(
    "LoKr", "LOKR", ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var whole1 = module.OptionalNumbers("lokr_w1", 2);
        var whole2 = module.OptionalNumbers("lokr_w2");
        var product1 = whole1 is null ? TuckerMatrix.Of(module, "lokr_w1_a", "lokr_w1_b", "lokr_t1") : null;
        var product2 = whole2 is null ? TuckerMatrix.Of(module, "lokr_w2_a", "lokr_w2_b", "lokr_t2") : null;
        AdaptedModule.Require(
            whole1 is null || (!module.Has("lokr_w1_a") && !module.Has("lokr_w1_b")), "it has lokr_w1 both whole and as a product");
        AdaptedModule.Require(
            whole2 is null || (!module.Has("lokr_w2_a") && !module.Has("lokr_w2_b") && !module.Has("lokr_t2")),
            "it has lokr_w2 both whole and as a product");
        var (rows1, columns1) = whole1 is null ? (product1!.Rows, product1.Columns) : ((int)whole1.Shape[0], (int)whole1.Shape[1]);
        var (rows2, columns2) = whole2 is null
            ? (product2!.Rows, product2.Columns)
            : ((int)whole2.Shape[0], (int)(whole2.Shape.Count() / Math.Max(whole2.Shape[0], 1)));
        module.RequireFit((long)rows1 * rows2, (long)columns1 * columns2);
        var rank = module.Config.RankOf(module.Name) ?? product2?.Rank ?? product1?.Rank ?? throw new MisfitException(
            "its rank is not in adapter_config.json");
        foreach (var product in new[] { product1, product2 })
        {
            AdaptedModule.Require(
                product is null || product.Rank == rank,
                $"its rank is {product?.Rank}, but adapter_config.json gives {module.Name} the rank {rank}");
        }

        StoredTensor[] inputs = [.. whole1 is null ? product1!.Inputs : [whole1], .. whole2 is null ? product2!.Inputs : [whole2]];
        return new MatrixDelta(inputs, from =>
        {
            var first = whole1 is null
                ? Matrices.Multiply(from.Read(product1!.A), from.Read(product1.B), rows1, rank, columns1)
                : from.Read(whole1);
            return whole2 is { Shape: [_, var channels, var kernel] }
                ? new KernelKronecker(first, from.Read(whole2), columns1, rows1, (int)channels, (int)kernel)
                : new Kronecker(
                    first, whole2 is null ? product2!.Open(from) : new StoredMatrix(from.Read(whole2), columns2), columns1, rows2,
                    columns2);
        })
        {
            Rank = rank,
            Scaling = module.Config.ValueOf(module.Name, "alpha", "alpha_pattern") / rank,
            ExtraBytes = ((long)rows1 * columns1 * sizeof(double)) + (product2?.ExtraBytes ?? 0),
        };
    }

    // kron of matrices; the kernel of a convolution belongs to the columns of the second.
    private sealed class Kronecker(double[] first, DeltaMatrix second, int columns1, int rows2, int columns2) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            for (var i = 0; i < block.Rows; i++)
            {
                var (outer, inner) = ((block.Row + i) / rows2, (block.Row + i) % rows2);
                for (var j = 0; j < block.Columns;)
                {
                    var (across, column) = ((block.Column + j) / columns2, (block.Column + j) % columns2);
                    var width = Math.Min(columns2 - column, block.Columns - j);
                    var target = values.Slice((i * block.Columns) + j, width);
                    second.Fill(new Block(inner, 1, column, width), target);
                    TensorPrimitives.Multiply(target, first[(outer * columns1) + across], target);
                    j += width;
                }
            }
        }
    }

    // torch.kron of w1 [a, b] and a whole w2 [c, d, k] of a Conv1d: w1 counts as [1, a, b], so the result is [c, a·d, b·k]; its values, in
    // their order, are those of the weight [a·c, b·d, k].
    private sealed class KernelKronecker(double[] first, double[] second, int columns1, int rows1, int channels, int kernel) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            var (width, height) = (columns1 * kernel, rows1 * channels);
            for (var at = 0; at < block.Count; at++)
            {
                var flat = ((long)(block.Row + (at / block.Columns)) * columns1 * channels * kernel) + block.Column + (at % block.Columns);
                var (z, y, x) = (flat / width / height, flat / width % height, flat % width);
                values[at] = first[(y / channels * columns1) + (x / kernel)]
                    * second[(((z * channels) + (y % channels)) * kernel) + (x % kernel)];
            }
        }
    }
}
