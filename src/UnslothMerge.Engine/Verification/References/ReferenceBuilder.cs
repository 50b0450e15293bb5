using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Verification.Placement;

namespace UnslothMerge.Verification.References;

/// <summary>Finds the references of a tensor's changes. From the plan it takes which adapters change the tensor; where a LoRA lies in it
/// says <see cref="ExpectedModel"/>, and factors, scalings and formulas it reads and computes itself.</summary>
internal sealed class ReferenceBuilder(MergePlan plan, ExpectedModel expected, InputFiles files)
{
    private readonly LayerTypes _layers = new(plan.Config);
    private readonly Dictionary<string, LogicalTensor> _tensors = plan.Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    private readonly Dictionary<string, AdapterTensors> _adapters = plan.Steps.Select(s => s.Adapter).DistinctBy(a => a.Weights.Path)
        .ToDictionary(a => a.Weights.Tensors[0].File.Path, a => new AdapterTensors(a), StringComparer.Ordinal);

    /// <summary>The matrix that the references of a tensor change.</summary>
    public static MatrixView ViewOf(LogicalTensor tensor) =>
        tensor.Terms.Length == 0 || tensor.Source.Verbatim is null ? tensor.View
        : tensor.Shape.Count < 2 ? new MatrixView(tensor.Shape.Count(), 1)
        : tensor.Terms.SelectMany(t => t.Term is CombinedTerm combined ? combined.Terms : [t.Term]).Any(
            t => t is LowRankTerm { Place: not null })
            ? MatrixView.Of(tensor.Shape)
        : MatrixView.ByOutput(tensor.Shape);

    /// <summary>The references of a tensor's changes in their order; null if there is none for one of them.</summary>
    public IReadOnlyList<Reference>? Build(LogicalTensor tensor)
    {
        var references = Groups(tensor.Terms).SelectMany(g => Build(tensor, g)).ToList();
        return references.Contains(null) ? null : [.. references.OfType<Reference>()];
    }

    private IEnumerable<Reference?> Build(LogicalTensor tensor, List<WeightedTerm> group)
    {
        var (term, factor) = (group[0].Term, group[0].Weight);
        if (term is CombinedTerm combined)
        {
            return [Combine(tensor, combined, factor)];
        }

        var module = ModuleOf(term);
        var type = _adapters[term.Inputs[0].File.Path].Adapter.Config.PeftType;
        return type is "LORA" or "TRAINABLE_TOKENS" ? Lora(tensor.Name, module, [.. group.Select(t => t.Term)], factor)
            : ReferenceKind.Table.GetValueOrDefault(type) is { } kind ? [OfKind(kind, tensor, module, factor)]
            : [null];
    }

    private CombinedReference? Combine(LogicalTensor tensor, CombinedTerm combined, double factor)
    {
        var groups = combined.Deltas.Select(d => Groups(d.Terms.Select(t => new WeightedTerm(t, "", 1))));
        List<IReadOnlyList<Reference?>> deltas = [.. groups.Select(g => g.SelectMany(terms => Build(tensor, terms)).ToList())];
        return deltas.Any(d => d.Contains(null)) ? null : new CombinedReference(combined, deltas!, factor);
    }

    // Consecutive terms of one module of one adapter belong together.
    private List<List<WeightedTerm>> Groups(IEnumerable<WeightedTerm> terms)
    {
        var groups = new List<List<WeightedTerm>>();
        foreach (var term in terms)
        {
            if (groups is [.., var last] && term.Weight == last[0].Weight && KeyOf(term.Term) == KeyOf(last[0].Term))
            {
                last.Add(term);
            }
            else
            {
                groups.Add([term]);
            }
        }

        return groups;
    }

    private (string File, string Module) KeyOf(DeltaTerm term) =>
        term is CombinedTerm ? default : (term.Inputs[0].File.Path, ModuleOf(term).Name);

    private AdapterModule ModuleOf(DeltaTerm term)
    {
        var own = term.Inputs.FirstOrDefault(IsOfModule) ?? term.Inputs[0];
        return new AdapterModule(
            files, _adapters[term.Inputs[0].File.Path], AdapterNames.Parse(own.Name).Module, term.Inputs);

        // Shared tensors lie beside the model's modules.
        static bool IsOfModule(StoredTensor tensor) => tensor.Name.StartsWith("base_model.model.", StringComparison.Ordinal)
            || !tensor.Name.StartsWith("base_model.", StringComparison.Ordinal);
    }

    // Where a LoRA lies, the plan says only of what no rule of the expected model knows.
    private IEnumerable<Reference?> Lora(string tensor, AdapterModule module, List<DeltaTerm> terms, double factor)
    {
        if (terms is [DoraTerm dora])
        {
            var own = Lora(tensor, module, [.. dora.Products], 1).ToList();
            return own.Contains(null) ? [null]
                : [new DoraReference(PlainValues.ReadAll(files, dora.Magnitude.Inputs[0]), dora.Magnitude.ByColumn, own!)];
        }

        var products = terms.OfType<LowRankTerm>().ToList();
        var pieces = products.Count == 0 ? [] : expected.PiecesIn(tensor, products[0].Left.Tensor)
            ?? [.. products.Select(t => new LoraPiece(tensor, t.Left, t.Right, t.Scaling, t.Place ?? default))];
        return pieces.Select(p => new LowRankReference(files, p.Left, p.Right, factor * p.Scale, p.Place))
            .Concat(terms.Where(t => t is not LowRankTerm).Select(t => Lora(module, t, factor)));
    }

    private Reference? Lora(AdapterModule module, DeltaTerm term, double factor) => term switch
    {
        MagnitudeTerm t => new DoraReference(PlainValues.ReadAll(files, t.Inputs[0]), t.ByColumn),
        VectorTerm t => new VectorReference(
            PlainValues.ReadAll(files, t.Inputs[0]), factor * Scale(module, (int)module.Shape("lora_A.weight")[0])),
        RowReplacementTerm => LoraVariants.Tokens(module),
        KasaTerm t => LoraVariants.Kasa(module, Scale(module, t.Rank!.Value)),
        BlockDiagonalTerm t => LoraVariants.BlockDiagonal(module, Scale(module, t.Rank!.Value), factor),
        _ => null,
    };

    // alpha/r or alpha/√r.
    private static double Scale(AdapterModule module, int rank) => module.Number("lora_alpha", "alpha_pattern")
        / (module.IsSet("use_rslora") ? Math.Sqrt(rank) : rank);

    private Reference? OfKind(ReferenceKind kind, LogicalTensor tensor, AdapterModule module, double factor)
    {
        var (isBias, view) = (tensor.Shape.Count == 1, ViewOf(tensor));
        var transposed = !isBias && IsTransposed(kind, tensor, module);
        var (rows, columns) = isBias ? (checked((int)tensor.Shape[0]), 1) : (checked((int)view.Rows), view.Columns);
        var (outputs, inputs) = transposed ? (columns, rows) : (rows, columns);
        var reference = kind.Of(module, new ReferenceTarget(outputs, inputs, isBias, tensor.Shape, factor, () => WeightOf(tensor)));
        return transposed && reference is not null ? FormulaReference.Transpose(reference) : reference;
    }

    private bool IsTransposed(ReferenceKind kind, LogicalTensor tensor, AdapterModule module)
    {
        var (outputs, inputs) = kind.Size?.Invoke(module) ?? default;
        var bias = _tensors.GetValueOrDefault(Sibling(tensor.Name, "bias"))?.Shape.Count();
        var fanInFanOut = module.IsSet("fan_in_fan_out");
        return _layers.Of(module.Name, tensor.Shape, bias, outputs, inputs, fanInFanOut) == LayerType.TransposedLinear;
    }

    // The weight beside a bias, as the base has it.
    private Matrix<double> WeightOf(LogicalTensor bias)
    {
        var weight = _tensors[Sibling(bias.Name, "weight")];
        var view = MatrixView.ByOutput(weight.Shape);
        var set = RowSet.OfRange(0, view.Rows, view.Columns);
        using var rows = new RowReader(files, weight.Source, view);
        rows.Read(set.Rows, set.Weight);
        return set.WeightMatrix;
    }

    private static string Sibling(string name, string parameter) => $"{name[..(name.LastIndexOf('.') + 1)]}{parameter}";
}
