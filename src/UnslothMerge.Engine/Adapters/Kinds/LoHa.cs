using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>LoHa: W + (w1_a·w1_b)⊙(w2_a·w2_b)·alpha/r, convolutions flattened to [out, in·k…]; with <c>use_effective_conv2d</c> each factor
/// is a Tucker decomposition (see <see cref="TuckerMatrix"/>). Source: FedPara (arXiv 2108.06098); PEFT 0.21, <c>loha</c>.</summary>
internal sealed class LoHa() : MatrixKind("LoHa", "LOHA", ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"])
{
    protected override MatrixDelta Build(AdaptedModule module)
    {
        var first = TuckerMatrix.Of(module, "hada_w1_a", "hada_w1_b", "hada_t1");
        var second = TuckerMatrix.Of(module, "hada_w2_a", "hada_w2_b", "hada_t2");
        AdaptedModule.Require(
            (first.Rows, first.Columns, first.Rank) == (second.Rows, second.Columns, second.Rank),
            $"its two factors are [{first.Rows}, {first.Columns}] of rank {first.Rank} and [{second.Rows}, {second.Columns}] of rank "
            + $"{second.Rank}");
        module.RequireFit(first.Rows, first.Columns);
        return new MatrixDelta(
            [.. first.Inputs, .. second.Inputs], from => new CombinedMatrix(first.Open(from), second.Open(from), isProduct: true))
        {
            Rank = module.RequireRank(first.Rank),
            Scaling = module.Config.ValueOf(module.Name, "alpha", "alpha_pattern") / first.Rank,
            ExtraBytes = first.ExtraBytes + second.ExtraBytes,
        };
    }
}
