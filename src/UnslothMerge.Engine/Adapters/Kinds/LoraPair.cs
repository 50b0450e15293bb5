using System.Text.Json.Nodes;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>The two factors of a LoRA delta and what the config says of them.</summary>
/// <param name="A">[rank, in], for convolutions [rank, in, k…].</param>
/// <param name="B">[out, rank], for convolutions [out, rank, 1…].</param>
/// <param name="BlocksA">If not 1: A holds so many blocks of rows, which stand on the diagonal of a matrix that is zero elsewhere.</param>
/// <param name="BlocksB">The same for B.</param>
/// <param name="Scaling">alpha / r, or alpha / √r.</param>
internal sealed record LoraPair(StoredTensor A, StoredTensor B, int BlocksA, int BlocksB, double Scaling)
{
    /// <summary>The rank.</summary>
    public long Rank => A.Shape[0];

    /// <summary>The number of inputs; of channels, for a convolution.</summary>
    public long Inputs => A.Shape[1] * BlocksA;

    /// <summary>The number of outputs.</summary>
    public long Outputs => B.Shape[0];

    /// <summary>A as a matrix [rank, in].</summary>
    public FactorMatrix MatrixA => new(A, Transposed: false);

    /// <summary>B as a matrix [out, rank].</summary>
    public FactorMatrix MatrixB => new(B, Transposed: false);

    /// <summary>Takes the factors of a module; null if that fails, and then the module's tensors are reported.</summary>
    /// <param name="module">The module.</param>
    /// <param name="target">Takes the report.</param>
    /// <param name="partA">The part that A is stored as.</param>
    /// <param name="partB">The part that B is stored as.</param>
    public static LoraPair? Find(ModuleAdapter module, IAdapterTarget target, string partA, string partB)
    {
        if (module.Find(partA) is not { } a || module.Find(partB) is not { } b)
        {
            var missing = module.Find(partA) is null ? partA : partB;
            foreach (var (part, tensor) in module.Tensors)
            {
                target.Problem(tensor, $"the module {module.Module} has no {missing}, without which its {part} means nothing");
            }

            return null;
        }

        var (blocksA, blocksB) = BlocksOf(module);
        if (Misfit(module, a, b, blocksA, blocksB) is { } reason)
        {
            target.Problem(module, reason);
            return null;
        }

        return new LoraPair(a, b, blocksA, blocksB, module.Config.ScalingOf(module.Module, checked((int)a.Shape[0])));
    }

    private static string? Misfit(ModuleAdapter module, StoredTensor a, StoredTensor b, int blocksA, int blocksB)
    {
        if (a.Shape.Count < 2 || b.Shape.Count < 2 || a.Shape[0] < 1 || a.Shape[0] % blocksA != 0 || b.Shape[0] % blocksB != 0 || a.Shape[0] != b.Shape[1] * blocksB)
        {
            // With groups, torch gives lora_B one group's share of the rank.
            return a.Shape.Count > 2 && b.Shape.Count > 2 && b.Shape[1] > 0 && a.Shape[0] > b.Shape[1] && a.Shape[0] % b.Shape[1] == 0
                ? $"{module.Module} is a convolution with {a.Shape[0] / b.Shape[1]} groups: lora_A {a.Shape.Text()} reads all input channels, the weight only those of its group, so it cannot hold the delta"
                : $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank";
        }

        return module.Config.RankOf(module.Module) is { } expected && expected != a.Shape[0]
            ? $"its rank is {a.Shape[0]}, but adapter_config.json gives {module.Module} the rank {expected}"
            : null;
    }

    // BD-LoRA keeps one factor as the blocks of a block-diagonal matrix. PEFT: where the module's name contains an entry of the list.
    private static (int A, int B) BlocksOf(ModuleAdapter module)
    {
        if (module.Config.Json["use_bdlora"] is not JsonObject config)
        {
            return (1, 1);
        }

        var blocks = Math.Max(1, (int)(config.Number("nblocks") ?? 1));
        int Of(string option) => config.Strings(option).Any(e => module.Module.Contains(e, StringComparison.Ordinal)) ? blocks : 1;
        return (Of("target_modules_bd_a"), Of("target_modules_bd_b"));
    }
}
