using MathNet.Numerics.LinearAlgebra;
using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Combining;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.Formats;
using UnslothMerge.IO;
using UnslothMerge.Models;
using UnslothMerge.Planning;
using UnslothMerge.Safetensors;

namespace UnslothMerge.Verification.References;

/// <summary>
/// Finds the references of a tensor's changes. Of the plan it takes which adapter changes which tensor where; factors, scalings and formulas it reads and computes
/// itself.
/// </summary>
internal sealed class ReferenceBuilder
{
    private readonly MergePlan _plan;
    private readonly InputFiles _files;
    private readonly LayerTypes _layers;
    private readonly Dictionary<string, AdapterTensors> _adapters;
    private readonly Dictionary<string, LogicalTensor> _tensors;

    public ReferenceBuilder(MergePlan plan, InputFiles files)
    {
        (_plan, _files) = (plan, files);
        _layers = new LayerTypes(plan.Config);
        _adapters = plan.Steps.Select(s => s.Adapter).DistinctBy(a => a.Weights.Path).ToDictionary(a => a.Weights.Tensors[0].File.Path, a => new AdapterTensors(a), StringComparer.Ordinal);
        _tensors = plan.Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
    }

    /// <summary>The matrix that the references of a tensor see.</summary>
    public static MatrixView ViewOf(LogicalTensor tensor) =>
        tensor.Terms.Length == 0 || tensor.Source.Verbatim is null ? tensor.View
        : tensor.Shape.Count < 2 ? new MatrixView(tensor.Shape.Count(), 1)
        : Parts(tensor.Terms).Any(t => t is LowRankTerm { Place: not null }) ? MatrixView.Of(tensor.Shape)
        : MatrixView.ByOutput(tensor.Shape);

    /// <summary>The references of a tensor's changes in their order; null if there is none for one of them.</summary>
    public IReadOnlyList<Reference>? Build(LogicalTensor tensor)
    {
        var references = new List<Reference>();
        foreach (var group in Groups(tensor.Terms))
        {
            if (group[0].Term is CombinedTerm combined)
            {
                if (Combine(tensor, combined, group[0].Weight) is not { } reference)
                {
                    return null;
                }

                references.Add(reference);
                continue;
            }

            foreach (var reference in Build(tensor, [.. group.Select(t => t.Term)], group[0].Weight))
            {
                if (reference is null)
                {
                    return null;
                }

                references.Add(reference);
            }
        }

        return references;
    }

    /// <summary>The adapter tensors' own module and parts.</summary>
    private AdapterModule ModuleOf(DeltaTerm term)
    {
        var adapter = _adapters[term.Inputs[0].File.Path];
        var own = term.Inputs.FirstOrDefault(i => i.Name.StartsWith("base_model.model.", StringComparison.Ordinal) || !i.Name.StartsWith("base_model.", StringComparison.Ordinal)) ?? term.Inputs[0];
        return new AdapterModule(_files, adapter, AdapterNames.Parse(own.Name, AdapterKinds.Parts).Module, term.Inputs);
    }

    private static IEnumerable<DeltaTerm> Parts(IEnumerable<WeightedTerm> terms) => terms.SelectMany(t => t.Term is CombinedTerm combined ? combined.Terms : [t.Term]);

    // Terms of one module of one adapter, one after the other, belong together.
    private IEnumerable<List<WeightedTerm>> Groups(IEnumerable<WeightedTerm> terms)
    {
        var group = new List<WeightedTerm>();
        foreach (var term in terms)
        {
            if (group.Count > 0 && (term.Weight != group[0].Weight || KeyOf(term.Term) != KeyOf(group[0].Term)))
            {
                yield return group;
                group = [];
            }

            group.Add(term);
        }

        if (group.Count > 0)
        {
            yield return group;
        }
    }

    private (string File, string Module) KeyOf(DeltaTerm term) => term is CombinedTerm ? ("", "") : (term.Inputs[0].File.Path, ModuleOf(term).Name);

    private IEnumerable<Reference?> Build(LogicalTensor tensor, IReadOnlyList<DeltaTerm> terms, double factor)
    {
        var module = ModuleOf(terms[0]);
        var type = _adapters[terms[0].Inputs[0].File.Path].Adapter.Config.PeftType;
        return type is "LORA" or "TRAINABLE_TOKENS" ? terms.Select(t => Lora(module, t, factor))
            : ReferenceKind.Table.GetValueOrDefault(type) is { } kind ? [OfKind(kind, tensor, module, factor)]
            : [null];
    }

    private Reference? Lora(AdapterModule module, DeltaTerm term, double factor) => term switch
    {
        LowRankTerm t => new LowRankReference(_files, t.Left, t.Right, factor * Scale(module, t.Left.Tensor, checked((int)t.Right.Rows), t.Scaling), t.Place ?? default),
        MagnitudeTerm t => new DoraReference(PlainValues.ReadAll(_files, t.Inputs[0]), t.ByColumn),
        VectorTerm t => new VectorReference(PlainValues.ReadAll(_files, t.Inputs[0]), factor * Scale(module, null, checked((int)module.Shape("lora_A.weight")[0]), t.Scaling)),
        RowReplacementTerm => LoraVariants.Tokens(module),
        KasaTerm t => LoraVariants.Kasa(module, Scale(module, null, t.Rank!.Value, t.Scaling)),
        BlockDiagonalTerm t => LoraVariants.BlockDiagonal(module, Scale(module, null, t.Rank!.Value, t.Scaling), factor),
        _ => null,
    };

    // alpha/r or alpha/√r from the config. A pattern may name a parameter that only the plan knows; PEFT up to 0.21 adds out_proj's delta twice.
    private static double Scale(AdapterModule module, StoredTensor? factor, int rank, double planned)
    {
        if (module.Config["target_parameters"] is not null && module.Config["alpha_pattern"] is System.Text.Json.Nodes.JsonObject { Count: > 0 })
        {
            return planned;
        }

        var alpha = module.Number("lora_alpha", "alpha_pattern");
        var twice = factor?.Name.Contains(".base_layer.out_proj.", StringComparison.Ordinal) == true && !IsAfter021((string?)module.Config["peft_version"]);
        return (twice ? 2 : 1) * alpha / ((bool?)module.Config["use_rslora"] == true ? Math.Sqrt(rank) : rank);
    }

    private static bool IsAfter021(string? version) =>
        version?.Split('.') is [var major, var minor, ..] && int.TryParse(major, out var first) && int.TryParse(minor, out var second) && (first, second).CompareTo((0, 21)) > 0;

    private Reference? OfKind(ReferenceKind kind, LogicalTensor tensor, AdapterModule module, double factor)
    {
        var isBias = tensor.Shape.Count == 1;
        var view = ViewOf(tensor);
        var transposed = !isBias && IsTransposed(kind, tensor, module);
        var (outputs, inputs) = isBias ? (checked((int)tensor.Shape.Count()), 1) : transposed ? (view.Columns, checked((int)view.Rows)) : (checked((int)view.Rows), view.Columns);
        var reference = kind.Of(module, new ReferenceTarget(outputs, inputs, isBias, tensor.Shape, factor, () => WeightOf(tensor)));
        return transposed && reference is not null ? new TransposedReference(reference) : reference;
    }

    private bool IsTransposed(ReferenceKind kind, LogicalTensor tensor, AdapterModule module)
    {
        var (outputs, inputs) = kind.Size(module);
        var bias = _tensors.GetValueOrDefault(Sibling(tensor.Name, "bias"))?.Shape.Count();
        return _layers.Of(module.Name, tensor.Shape, bias, outputs, inputs, (bool?)module.Config["fan_in_fan_out"] == true) == LayerType.TransposedLinear;
    }

    // The weight beside a bias, as the base has it.
    private Matrix<double> WeightOf(LogicalTensor bias)
    {
        var weight = _tensors[Sibling(bias.Name, "weight")];
        var set = new RowSet([.. Enumerable.Range(0, checked((int)weight.Shape[0])).Select(i => (long)i)], checked((int)weight.Shape[1]));
        using var rows = new RowReader(_files, weight.Source, MatrixView.ByOutput(weight.Shape));
        rows.Read(set.Rows, set.Weight);
        return set.WeightMatrix;
    }

    private static string Sibling(string name, string parameter) => $"{name[..(name.LastIndexOf('.') + 1)]}{parameter}";

    private CombinedReference? Combine(LogicalTensor tensor, CombinedTerm combined, double factor)
    {
        var parts = combined.Deltas.Select(d => Groups(d.Terms.Select(t => new WeightedTerm(t, "", 1))).SelectMany(g => Build(tensor, [.. g.Select(t => t.Term)], 1)).ToList()).ToList();
        return parts.Any(p => p.Contains(null)) ? null : new CombinedReference(combined, [.. parts.Select(p => (IReadOnlyList<Reference>)p!)], factor);
    }
}
