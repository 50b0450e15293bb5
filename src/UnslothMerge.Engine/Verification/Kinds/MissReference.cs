using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Verification.References;

namespace UnslothMerge.Verification.Kinds;

/// <summary>MiSS: W[o, c] + B[c mod r, o]; 'mini' repeats B along the outputs; 'bat' makes X + X·Bₚ + Bₚ of each tile (arXiv 2409.15371; PEFT 0.21).</summary>
internal sealed class MissReference : ReferenceKind
{
    public override Reference Of(AdapterModule module, ReferenceTarget target)
    {
        var (blocks, shape) = (module.Values("miss_block"), module.Shape("miss_block"));
        if (shape is [_, _, var size])
        {
            return new MappedReference((rows, weight) => Matrix<double>.Build.Dense(weight.RowCount, weight.ColumnCount, (i, column) =>
            {
                var (tile, inner, left) = (rows[i] / size, rows[i] % size, column / size * size);
                var sum = weight[i, column] + blocks[(((tile * size) + inner) * size) + (column % size)];
                for (var k = 0L; k < size; k++)
                {
                    sum += weight[i, (int)(left + k)] * blocks[(((tile * size) + k) * size) + (column % size)];
                }

                return sum;
            }));
        }

        var (rank, period) = (shape[0], shape[1]);
        return new AddedReference((rows, _) => Matrices.Make(rows, target.Inputs, (i, j) => blocks[(j % rank * period) + (i % period)]), target.Factor);
    }
}
