using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>FRoD: the weight is written as U(S + diag(λ))Vᵀ with a V that modules of one category share, and S and λ are trained. Source:
/// PEFT 0.21, <c>FrodLayer</c>, <c>FrodModel</c>.</summary>
internal sealed class Frod() : WeightKind("FRoD", "FROD", [Diagonal, Sparse], [V, Indices, Size])
{
    private const string Diagonal = "frod_lambda_l";
    private const string Sparse = "frod_lambda_s_values";
    private const string V = "frod_V";
    private const string Indices = "frod_s_indices";
    private const string Size = "frod_s_size";

    protected override ModuleChanges Changes(AdaptedModule module, TargetTensor weight)
    {
        var (diagonal, sparse) = (module.Part(Diagonal), module.Part(Sparse));
        var (v, indices, size) = (Shared(module, V), Shared(module, Indices), Shared(module, Size));
        var fits = diagonal.Shape is [> 0 and var n] && sparse.Shape is [var count] && v.Shape.SequenceEqual([n, n])
            && indices.Shape.SequenceEqual([2, count]) && indices.Type == TensorType.I64;
        var layout = fits ? LayerLayout.Of(module, null, diagonal.Shape[0]) : null;
        AdaptedModule.Require(
            layout is not null,
            $"{Diagonal} {diagonal.Shape.Text()}, {Sparse} {sparse.Shape.Text()}, {V} {v.Shape.Text()} and {Indices} {indices.Type} "
            + $"{indices.Shape.Text()} do not fit {weight.Name} {weight.Shape.Text()}");
        var term = new FrodTerm(Name, new FrodTensors(v, indices, size, diagonal, sparse), layout);
        return new ModuleChanges(new TensorChange(weight, term, layout.View));
    }

    /// <summary>The modules that share a V: PEFT's rule, from the last parts of a module's name.</summary>
    internal static string Category(string module) => module.Split('.') switch
    {
        [.., "attention", "output", "dense"] => "attention_output",
        [.., var parent, var last] when !parent.All(char.IsAsciiDigit) => $"{parent}_{last}",
        [.., var last] => last,
        _ => module,
    };

    // A raw dump has the adapter's name behind the category.
    private static StoredTensor Shared(AdaptedModule module, string name)
    {
        var category = Category(module.Name);
        return module.Shared.GetValueOrDefault($"{name}.{category}") ?? module.Shared.GetValueOrDefault($"{name}.{category}.default")
            ?? throw new MisfitException($"the file has no {name}.{category}, which modules of this category share");
    }
}
