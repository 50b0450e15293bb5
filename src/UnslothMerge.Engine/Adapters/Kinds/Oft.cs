using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>OFT: the input of a Linear layer or a convolution, or the output of an embedding, is rotated block by block. Source: OFT (arXiv
/// 2306.07280); PEFT 0.21, <c>oft.Linear</c>, <c>oft.Conv2d</c>, <c>oft.Embedding</c>.</summary>
internal sealed class Oft(string part, bool ofOutput) : WeightKind("OFT", "OFT", ofOutput ? [part] : [part, Old])
{
    // Before PEFT 0.16; the rotations were made otherwise.
    private const string Old = "oft_r";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        AdaptedModule.Require(
            !module.Has(Old) && module.Part(part).Shape is [> 0, _],
            "it was saved by PEFT before 0.16, which computed rotations differently");
        var triangles = module.Part(part);
        var (blocks, size) = (triangles.Shape[0], BlockSize(triangles.Shape[1]));
        var shared = blocks == 1 && module.Config.IsSet("block_share");
        var layout = size * (size - 1) / 2 == triangles.Shape[1] ? LayerLayout.Of(module, null, shared ? null : blocks * size) : null;
        AdaptedModule.Require(
            layout is not null && layout.Inputs % size == 0 && !(ofOutput && layout.InputFirst),
            $"{Amount.Text(blocks, "rotation")} of {size} inputs do{(blocks == 1 ? "es" : "")} not fit {weight.Name} "
            + $"{weight.Shape.Text()}");
        var options = new OftOptions((int)size, Coefficients(module.Config), MaxNorm(module.Config, blocks), ofOutput);
        return new ModuleChanges(new TensorChange(weight, new OftTerm(Name, triangles, options, layout), layout.View));
    }

    // n(n − 1)/2 values above the diagonal.
    private static long BlockSize(long values) => (1 + (long)Math.Round(Math.Sqrt(1 + (8.0 * values)))) / 2;

    // Configs that do not know the option come from versions that only knew the exact transform.
    private static double[]? Coefficients(AdapterConfig config)
    {
        if (config.Flag("use_cayley_neumann") != true)
        {
            return null;
        }

        var terms = config.Whole("num_cayley_neumann_terms") ?? 5;

        // From 0.18 on, the last power counts once, and there are at least three.
        return terms <= 2 || config.PeftVersion < new Version(0, 18) ? [.. Enumerable.Repeat(2.0, Math.Max(0, terms - 1))]
            : [.. Enumerable.Repeat(2.0, Math.Max(2, terms - 2)), 1];
    }

    private static double? MaxNorm(AdapterConfig config, long blocks) =>
        config.IsSet("coft") ? (config.Number("eps") ?? 6e-5) / Math.Sqrt(blocks) : null;
}
