namespace UnslothMerge.Adapters.Trainers;

/// <summary>Megatron-Bridge's expert LoRA: stacks <c>lora_A</c> [experts, r, in] and <c>lora_B</c> [out, r, experts], which PEFT stores
/// with two dimensions; or one factor [1, …] that all experts share, under the name without an expert. Source: Megatron-Bridge,
/// <c>peft/conversion</c>.</summary>
internal static partial class MegatronBridge
{
    /// <summary>The tensors as PEFT names and shapes them; null if they are.</summary>
    public static IReadOnlyList<StoredTensor>? Convert(IReadOnlyList<StoredTensor> tensors)
    {
        if (!tensors.Any(t => t.Shape.Count == 3 && FactorName().IsMatch(t.Name)))
        {
            return null;
        }

        // The numbers of the experts that have the other factor.
        var experts = tensors.Select(t => ExpertName().Match(t.Name)).Where(m => m.Success)
            .ToLookup(m => (m.Groups["stack"].Value, m.Groups["part"].Value), m => m.Groups["expert"].Value);
        return [.. tensors.SelectMany(Converted)];

        IEnumerable<StoredTensor> Converted(StoredTensor tensor)
        {
            if (tensor.Shape is not [var first, var middle, var last] || FactorName().Match(tensor.Name) is not { Success: true } name)
            {
                return [tensor];
            }

            var (stack, part) = (name.Groups["stack"].Value, name.Groups["part"].Value);
            var sharing = experts[(stack, part)].Distinct().ToList();
            return first == 1 && sharing.Count > 0
                ? sharing.Select(e => tensor.Slice(0) with { Name = $"{stack}.{e}.{part}.{name.Groups["factor"].Value}" })
                : [tensor with { Shape = name.Groups["factor"].Value[5] == 'A' ? [first * middle, last] : [first, middle * last] }];
        }
    }

    [GeneratedRegex(@"^(?<stack>.*\.experts)\.((?<part>.+)\.)?(?<factor>lora_[AB]\..*)$", RegexOptions.ExplicitCapture)]
    private static partial Regex FactorName();

    [GeneratedRegex(@"^(?<stack>.*\.experts)\.(?<expert>\d+)\.(?<part>.+)\.lora_[AB]\.", RegexOptions.ExplicitCapture)]
    private static partial Regex ExpertName();
}
