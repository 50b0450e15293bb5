using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>The two factors of a LoRA delta, A [rank, in] and B [out, rank], for convolutions [rank, in, k…] and [out, rank, 1…], and its
/// scaling, alpha / r or alpha / √r. A factor of more than one block holds so many blocks of rows, which stand on the diagonal of a matrix
/// that is zero elsewhere.</summary>
internal sealed record LoraPair(StoredTensor A, StoredTensor B, int BlocksA, int BlocksB, double Scaling)
{
    /// <summary>The inputs that share a column of A.</summary>
    public int Group { get; init; } = 1;

    /// <summary>The rank.</summary>
    public int Rank => (int)A.Shape[0];

    /// <summary>The number of inputs; of channels, for a convolution.</summary>
    public long Inputs => A.Shape[1] * BlocksA * Group;

    /// <summary>The number of outputs.</summary>
    public long Outputs => B.Shape[0];

    /// <summary>The delta: scaling · B · A [out, in], or its transpose.</summary>
    public LowRankTerm Delta(string kind, bool transposed = false) => transposed
        ? new LowRankTerm(kind, new FactorMatrix(A, Transposed: true), new FactorMatrix(B, Transposed: true), Scaling)
        : new LowRankTerm(
            kind, new FactorMatrix(B, Transposed: false), new FactorMatrix(A, Transposed: false) { Repeat = Group }, Scaling);

    /// <summary>Takes the factors of a module, by the parts that they are stored as.</summary>
    public static LoraPair Of(AdaptedModule module, string partA, string partB)
    {
        var (a, b) = (module.Part(partA), module.Part(partB));
        var (blocksA, blocksB) = BlocksOf(module);
        if (a.Shape.Count < 2 || b.Shape.Count < 2 || a.Shape[0] < 1 || a.Shape[0] % blocksA != 0 || b.Shape[0] % blocksB != 0
            || a.Shape[0] != b.Shape[1] * blocksB)
        {
            // With groups, torch gives lora_B one group's share of the rank.
            var inGroups = a.Shape.Count > 2 && b.Shape.Count > 2 && b.Shape[1] > 0 && a.Shape[0] > b.Shape[1]
                && a.Shape[0] % b.Shape[1] == 0;
            throw new MisfitException(inGroups
                ? $"{module.Name} is a convolution with {a.Shape[0] / b.Shape[1]} groups: lora_A {a.Shape.Text()} reads all input "
                    + "channels, the weight only those of its group, so it cannot hold the delta"
                : $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank");
        }

        return new LoraPair(a, b, blocksA, blocksB, module.Config.ScalingOf(module.Name, module.RequireRank(a.Shape[0])));
    }

    // BD-LoRA keeps one factor as the blocks of a block-diagonal matrix. PEFT: where the module's name contains an entry of the list.
    private static (int A, int B) BlocksOf(AdaptedModule module)
    {
        if (module.Config.Json["use_bdlora"] is not JsonObject config)
        {
            return (1, 1);
        }

        var blocks = Math.Max(1, (int)(config.Number("nblocks") ?? 1));
        int Of(string option) => config.Strings(option).Any(e => module.Name.Contains(e, StringComparison.Ordinal)) ? blocks : 1;
        return (Of("target_modules_bd_a"), Of("target_modules_bd_b"));
    }
}
