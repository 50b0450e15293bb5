using UnslothMerge.Adapters.Terms;
using UnslothMerge.Models;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// OFT on a Linear layer or a convolution: its input is rotated block by block. Source: OFT (arXiv 2306.07280); PEFT 0.21, <c>oft.Linear</c>,
/// <c>oft.Conv2d</c>.
/// </summary>
public class Oft : AdapterKind
{
    // Before PEFT 0.16; the rotations were made otherwise.
    private const string Old = "oft_r";

    /// <inheritdoc/>
    public override string Name => "OFT";

    /// <inheritdoc/>
    public override string PeftType => "OFT";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts => [Part, Old];

    /// <summary>The stored triangles.</summary>
    protected virtual string Part => "oft_R.weight";

    /// <summary>True if the layer's output is rotated.</summary>
    protected virtual bool OfOutput => false;

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        if (module.Find(Old) is not null || module.Tensors[Part] is not { Shape: [> 0, _] } triangles)
        {
            target.Problem(module, "it was saved by PEFT before 0.16, which made its rotations in another way");
            return true;
        }

        var size = BlockSize(triangles.Shape[1]);
        var blocks = triangles.Shape[0];

        var shared = blocks == 1 && module.Config.IsSet("block_share");
        if (size * (size - 1) / 2 != triangles.Shape[1] || LayerLayout.Of(module, target, weight, null, shared ? null : blocks * size) is not { } layout
            || layout.Inputs % size != 0 || (OfOutput && layout.InputFirst))
        {
            target.Problem(triangles, $"{blocks} rotation{(blocks == 1 ? "" : "s")} of {size} inputs do{(blocks == 1 ? "es" : "")} not fit {weight.Name} {weight.Shape.Text()}");
            return true;
        }

        var options = new OftOptions((int)size, Coefficients(module.Config), MaxNorm(module.Config, blocks), OfOutput);
        target.Add(weight, module.Module, new OftTerm(Name, triangles, options, layout), layout.View);
        return true;
    }

    // n(n − 1)/2 values above the diagonal.
    private static long BlockSize(long values) => (1 + (long)Math.Round(Math.Sqrt(1 + (8.0 * values)))) / 2;

    // Configs that do not know the option come from versions that only knew the exact transform.
    private static double[]? Coefficients(AdapterConfig config)
    {
        if (config.Json.Bool("use_cayley_neumann") != true)
        {
            return null;
        }

        var terms = (int)(config.Json.Number("num_cayley_neumann_terms") ?? 5);
        if (terms <= 2)
        {
            return terms == 2 ? [2] : [];
        }

        // From 0.18 on, the last power counts once, and there are at least three.
        var powers = IsBefore018(config) ? terms - 1 : Math.Max(3, terms - 1);
        var coefficients = new double[powers];
        Array.Fill(coefficients, 2);
        if (!IsBefore018(config))
        {
            coefficients[^1] = 1;
        }

        return coefficients;
    }

    // The version is written since 0.18.
    private static bool IsBefore018(AdapterConfig config)
    {
        var numbers = (config.Json.String("peft_version") ?? "0.0").Split('.');
        return numbers.Length >= 2 && int.TryParse(numbers[0], out var major) && int.TryParse(numbers[1], out var minor) && major == 0 && minor < 18;
    }

    private static double? MaxNorm(AdapterConfig config, long blocks) => config.IsSet("coft") ? (config.Json.Number("eps") ?? 6e-5) / Math.Sqrt(blocks) : null;
}

/// <summary>OFT on an embedding: its output is rotated block by block. Source: PEFT 0.21, <c>oft.Embedding</c>.</summary>
public sealed class OftEmbedding : Oft
{
    /// <inheritdoc/>
    protected override string Part => "oft_embedding_R.weight";

    /// <inheritdoc/>
    protected override bool OfOutput => true;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts => [Part];
}
