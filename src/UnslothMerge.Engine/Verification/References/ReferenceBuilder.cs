using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;

namespace UnslothMerge.Verification.References;

/// <summary>
/// Finds the references of a tensor's changes. From the plan it takes which adapter changes which tensor where; factors, scalings and
/// formulas
/// it reads and computes itself.
/// </summary>
internal sealed class ReferenceBuilder(MergePlan plan, InputFiles files)
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
        return type is "LORA" or "TRAINABLE_TOKENS" ? group.Select(t => Lora(module, t.Term, factor))
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

    private Reference? Lora(AdapterModule module, DeltaTerm term, double factor) => term switch
    {
        LowRankTerm t => new LowRankReference(
            files, t.Left, t.Right,
            factor * Scale(module, t.Left.Tensor, checked((int)t.Right.Rows), t.Scaling) * Pooling(t.Right), t.Place ?? default),
        MagnitudeTerm t => new DoraReference(PlainValues.ReadAll(files, t.Inputs[0]), t.ByColumn),
        VectorTerm t => new VectorReference(
            PlainValues.ReadAll(files, t.Inputs[0]), factor * Scale(module, null, (int)module.Shape("lora_A.weight")[0], t.Scaling)),
        RowReplacementTerm => LoraVariants.Tokens(module),
        KasaTerm t => LoraVariants.Kasa(module, Scale(module, null, t.Rank!.Value, t.Scaling)),
        BlockDiagonalTerm t => LoraVariants.BlockDiagonal(module, Scale(module, null, t.Rank!.Value, t.Scaling), factor),
        _ => null,
    };

    // QALoRA: the mean of each group of inputs, times the number of groups.
    private static double Pooling(FactorMatrix a) => a.Repeat == 1 ? 1 : (double)a.Columns / a.Repeat / a.Repeat;

    // alpha/r or alpha/√r. A pattern may name a parameter that only the plan knows; PEFT up to 0.21 adds out_proj's delta twice.
    private static double Scale(AdapterModule module, StoredTensor? factor, int rank, double planned)
    {
        if (module.Config["target_parameters"] is not null && module.Config["alpha_pattern"] is JsonObject { Count: > 0 })
        {
            return planned;
        }

        var alpha = module.Number("lora_alpha", "alpha_pattern");
        var twice = factor?.Name.Contains(".base_layer.out_proj.", StringComparison.Ordinal) == true
            && !IsAfter021((string?)module.Config["peft_version"]);
        return (twice ? 2 : 1) * alpha / ((bool?)module.Config["use_rslora"] == true ? Math.Sqrt(rank) : rank);
    }

    private static bool IsAfter021(string? version) => version?.Split('.') is [var major, var minor, ..]
        && int.TryParse(major, out var first) && int.TryParse(minor, out var second) && (first, second).CompareTo((0, 21)) > 0;

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
        var fanInFanOut = (bool?)module.Config["fan_in_fan_out"] == true;
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
