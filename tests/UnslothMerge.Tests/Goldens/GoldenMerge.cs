using System.Collections.Frozen;

namespace UnslothMerge.Tests.Goldens;

/// <summary>Does what a golden case says.</summary>
internal static class GoldenMerge
{
    private static readonly FrozenSet<string> KnownOptions =
        new[] { "BaseIsResidual", "DType", "Method", "DoubleQuantization", "MoeLoraLayout", "MoeOrientation" }.ToFrozenSet();

    /// <summary>Merges a case as its options say, and saves it.</summary>
    public static MergePlan Save(GoldenCase @case, string output)
    {
        if (@case.Options.Keys.FirstOrDefault(o => !KnownOptions.Contains(o)) is { } option)
        {
            throw new MergeException(MergeError.InvalidOption, $"The option {option} is not known.");
        }

        var plan = @case.Plan();
        var method = @case.Options.TryGetValue("Method", out var m) ? m.GetString()! : "merged_16bit";
        switch (method)
        {
            case "merged_16bit" or "merged_4bit" or "merged":
                bool? twice = @case.Options.TryGetValue("DoubleQuantization", out var d) ? d.GetBoolean() : null;
                OutputRequest? quantization = method switch
                {
                    "merged" => new BaseFormatRequest(),
                    "merged_4bit" => new FourBitRequest(null, twice, null, null),
                    _ => null,
                };
                TinyModel.Save(TinyModel.WritePlan(plan, @case.DType, quantization: quantization), output);
                break;
            case "lora":
                TinyModel.SaveAdapter(plan, output);
                break;
            default:
                throw new MergeException(MergeError.InvalidOption, $"The method {method} is not known.");
        }

        return plan;
    }
}
