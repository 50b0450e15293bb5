using UnslothMerge.Adapters.Terms;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>
/// FRoD: the weight is written as U(S + diag(λ))Vᵀ with a V that modules of one category share, and S and λ are trained.
/// Source: PEFT 0.21, <c>FrodLayer</c>, <c>FrodModel</c>.
/// </summary>
public sealed class Frod : AdapterKind
{
    private const string Diagonal = "frod_lambda_l";
    private const string Sparse = "frod_lambda_s_values";
    private const string V = "frod_V";
    private const string Indices = "frod_s_indices";
    private const string Size = "frod_s_size";

    /// <inheritdoc/>
    public override string Name => "FRoD";

    /// <inheritdoc/>
    public override string PeftType => "FROD";

    /// <inheritdoc/>
    public override IReadOnlyList<string> Parts { get; } = [Diagonal, Sparse];

    /// <inheritdoc/>
    public override IReadOnlyList<string> SharedParts { get; } = [V, Indices, Size];

    /// <inheritdoc/>
    public override bool Bind(ModuleAdapter module, IAdapterTarget target)
    {
        if (target.Find(module.Module, "weight") is not { } weight)
        {
            return false;
        }

        var category = Category(module.Module);
        if (module.Find(Diagonal) is not { } diagonal || module.Find(Sparse) is not { } sparse)
        {
            target.Problem(module, $"the module {module.Module} has only one of {Diagonal} and {Sparse}");
        }
        else if (Shared(module, V, category) is not { } v || Shared(module, Indices, category) is not { } indices || Shared(module, Size, category) is not { } size)
        {
            target.Problem(module, $"the file has not all of {V}.{category}, {Indices}.{category} and {Size}.{category}, which modules of this category share");
        }
        else if (diagonal.Shape is not [> 0 and var n] || sparse.Shape is not [var count] || !v.Shape.SequenceEqual([n, n]) || !indices.Shape.SequenceEqual([2, count])
            || indices.Type != TensorType.I64 || LayerLayout.Of(module, target, weight, null, n) is not { } layout)
        {
            target.Problem(module, $"{Diagonal} {diagonal.Shape.Text()}, {Sparse} {sparse.Shape.Text()}, {V} {v.Shape.Text()} and {Indices} {indices.Type} {indices.Shape.Text()} do not fit {weight.Name} {weight.Shape.Text()}");
        }
        else
        {
            target.Add(weight, module.Module, new FrodTerm(Name, new FrodTensors(v, indices, size, diagonal, sparse), layout), layout.View);
        }

        return true;
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
    private static StoredTensor? Shared(ModuleAdapter module, string name, string category) =>
        module.Shared.GetValueOrDefault($"{name}.{category}") ?? module.Shared.GetValueOrDefault($"{name}.{category}.default");
}
