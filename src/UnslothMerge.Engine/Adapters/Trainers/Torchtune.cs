using UnslothMerge.Pickle;

namespace UnslothMerge.Adapters.Trainers;

/// <summary>torchtune's epoch folders. It keeps the rows of q and k in an order of its own (pairs of a rotation side by side), except for
/// the families in <see cref="Families"/>. Its PEFT file is converted from that order: lora_B for every family, DoRA's magnitude for none.
/// <c>adapter_model.pt</c>, its own names and rows, is read where there is no PEFT file. Source: torchtune 0.6.1,
/// <c>models/convert_weights.py</c>.</summary>
internal sealed class Torchtune : AdapterLayout
{
    // Those whose weights torchtune keeps in transformers' order.
    private static readonly string[] Families = ["qwen", "phi"];

    private static readonly (string Tune, string Peft)[] Names =
    [
        ("layers.", "base_model.model.model.layers."), (".attn.output_proj.", ".self_attn.o_proj."), (".attn.", ".self_attn."),
        (".mlp.w1.", ".mlp.gate_proj."), (".mlp.w2.", ".mlp.down_proj."), (".mlp.w3.", ".mlp.up_proj."),
        ("output.", "base_model.model.lm_head."), (".lora_a.", ".lora_A."), (".lora_b.", ".lora_B."),
        (".magnitude", ".lora_magnitude_vector"),
    ];

    public override AdapterContent? Read(string directory)
    {
        var own = System.IO.Path.Combine(directory, "adapter_model.pt");
        return Config(directory) is not { } config || !File.Exists(own) ? null
            : PeftLayout.Weights(directory) is { } weights ? new AdapterContent(config, weights, IsAsSaved: false)
            : Content(config, own, TorchFile.Open(own).Select(t => t with { Name = Names.Aggregate(t.Name, Renamed) }));
    }

    public override AdapterContent Fit(AdapterContent content, ModelDirectory model)
    {
        var isPermuted = !Families.Any(f => model.Config.ModelType?.StartsWith(f, StringComparison.Ordinal) == true);
        var isOwn = content.Weights.Path.EndsWith(".pt", StringComparison.Ordinal);
        return content with { Weights = content.Weights with { Tensors = [.. content.Weights.Tensors.Select(Correct)] } };

        StoredTensor Correct(StoredTensor tensor)
        {
            var (isQuery, isKey) = (Has(".q_proj."), Has(".k_proj."));
            var (isB, isMagnitude) = (Has(".lora_B."), Has(".lora_magnitude_vector"));
            if (!((isQuery || isKey) && (isPermuted ? isMagnitude || (isB && isOwn) : isB && !isOwn)))
            {
                return tensor;
            }

            var heads = model.Config.Heads(isKey);
            if (tensor.Shape.Count == 0 || tensor.Shape[0] % (2 * heads) != 0)
            {
                throw new MergeException(
                    MergeError.InvalidAdapter, $"'{tensor.Name}' {tensor.Shape.Text()} does not have the rows of {heads} heads.",
                    tensor.File.Path, "Check that the adapter was trained on this base.");
            }

            var half = tensor.Shape[0] / heads / 2;
            return isPermuted
                ? tensor.Reordered((heads, 2 * half), (2, 1), (half, 2))
                : tensor.Reordered((heads, 2 * half), (half, 1), (2, half));

            bool Has(string part) => tensor.Name.Contains(part, StringComparison.Ordinal);
        }
    }

    private static string Renamed(string name, (string Tune, string Peft) rule) =>
        rule.Tune.StartsWith('.') ? name.Replace(rule.Tune, rule.Peft, StringComparison.Ordinal)
        : name.StartsWith(rule.Tune, StringComparison.Ordinal) ? rule.Peft + name[rule.Tune.Length..]
        : name;
}
