using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>The two factors of a LoRA delta, as matrices, and what the config says of them.</summary>
/// <param name="A">[rank, in], for convolutions [rank, in·k…].</param>
/// <param name="B">[out, rank].</param>
/// <param name="Scaling">alpha / r, or alpha / √r.</param>
internal sealed record LoraPair(FactorMatrix A, FactorMatrix B, double Scaling)
{
    /// <summary>The rank.</summary>
    public long Rank => A.Rows;

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
        var pair = a.Shape.Count >= 2 && b.Shape.Count >= 2 && a.Shape[0] % blocksA == 0 && b.Shape[0] % blocksB == 0
            ? new LoraPair(new FactorMatrix(a, Transposed: false, blocksA), new FactorMatrix(b, Transposed: false, blocksB), 1)
            : null;
        if (pair is null || pair.A.Rows != pair.B.Columns || pair.Rank < 1)
        {
            // With groups, torch gives lora_B one group's share of the rank.
            var groups = a.Shape.Count > 2 && b.Shape.Count > 2 && b.Shape[1] > 0 && a.Shape[0] % b.Shape[1] == 0 && a.Shape[0] > b.Shape[1];
            Report(module, target, groups
                ? $"{module.Module} is a convolution with {a.Shape[0] / b.Shape[1]} groups: lora_A {a.Shape.Text()} reads all input channels, the weight only those of its group, so it cannot hold the delta"
                : $"lora_A {a.Shape.Text()} and lora_B {b.Shape.Text()} are not [rank, in] and [out, rank] of one rank");
            return null;
        }

        if (module.Config.RankOf(module.Module) is { } expected && expected != pair.Rank)
        {
            Report(module, target, $"its rank is {pair.Rank}, but adapter_config.json gives {module.Module} the rank {expected}");
            return null;
        }

        return pair with { Scaling = module.Config.ScalingOf(module.Module, (int)pair.Rank) };
    }

    /// <summary>Reports all tensors of a module.</summary>
    public static void Report(ModuleAdapter module, IAdapterTarget target, string reason)
    {
        foreach (var tensor in module.Tensors.Values)
        {
            target.Problem(tensor, reason);
        }
    }

    // BD-LoRA (arXiv 2510.23346) keeps one factor as the blocks of a block-diagonal matrix. PEFT: an entry that the module's name contains.
    private static (int A, int B) BlocksOf(ModuleAdapter module)
    {
        if (module.Config.Json["use_bdlora"] is not System.Text.Json.Nodes.JsonObject config)
        {
            return (1, 1);
        }

        var blocks = (int)(Models.JsonFile.Number(config, "nblocks") ?? 1);
        int Of(string option) => Models.JsonFile.Strings(config, option).Any(e => module.Module.Contains(e, StringComparison.Ordinal)) ? Math.Max(blocks, 1) : 1;
        return (Of("target_modules_bd_a"), Of("target_modules_bd_b"));
    }
}
