using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>C3A: W + tiles / in, where tile (p, q) of n × n is circulant: [i, j] = kernel[p, q, (j − i) mod n]. Source: arXiv 2407.19342;
/// PEFT 0.21, <c>c3a</c>.</summary>
internal sealed class C3A() : MatrixKind("C3A", "C3A", [Kernel])
{
    private const string Kernel = "c3a_kernel";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var kernel = module.Numbers(Kernel, 3);
        var size = (int)kernel.Shape[2];
        var inputs = kernel.Shape[1] * size;
        module.RequireFit(kernel.Shape[0] * size, inputs);
        return new MatrixDelta([kernel], from => new Circulants(from.Read(kernel), (int)kernel.Shape[1], size)) { Scaling = 1.0 / inputs };
    }

    private sealed class Circulants(double[] kernel, int across, int size) : DeltaMatrix
    {
        public override void Fill(Block block, Span<double> values)
        {
            var at = 0;
            for (var row = block.Row; row < block.Row + block.Rows; row++)
            {
                for (var column = block.Column; column < block.Column + block.Columns; column++)
                {
                    var tile = ((row / size) * across) + (column / size);
                    values[at++] = kernel[(tile * size) + (((column % size) - (row % size) + size) % size)];
                }
            }
        }
    }
}
