using UnslothMerge.Formats.Quantized;

namespace UnslothMerge.Planning;

/// <summary>The methods that write a scheme of compressed-tensors, by their names and Unsloth's other spellings, and those that are
/// refused. Case, hyphens and underscores do not matter.</summary>
internal static class ExportMethods
{
    private static readonly (string Name, CompressedScheme Scheme, string[] Aliases)[] Table =
    [
        ("fp8", CompressedScheme.Fp8Dynamic, ["fp8_dynamic", "dynamic_fp8", "w8a8_fp8"]),
        ("fp8_block", CompressedScheme.Fp8Block, ["block_fp8"]),
        ("int8", CompressedScheme.W8A8, ["w8a8", "w8a8_int8"]),
        ("w8a16", CompressedScheme.W8A16, ["int8_weight"]),
        ("w4a16", CompressedScheme.W4A16, ["int4", "int4_weight"]),
        ("w4a16_asym", CompressedScheme.W4A16Asymmetric, []),
        ("mxfp8", CompressedScheme.MxFp8, []),
        ("mxfp4", CompressedScheme.MxFp4, []),
        ("mxfp4a16", CompressedScheme.MxFp4A16, []),
        ("nvfp4a16", CompressedScheme.NvFp4A16, []),
    ];

    // What a spelling is that is refused, and why.
    private static readonly (Func<string, bool> Is, string Reason)[] Refusals =
    [
        (Named("nvfp4", "w4a4"),
            "The method nvfp4 needs calibration data for the scales of its activations. nvfp4a16, whose activations stay in 16 bits, does "
            + "not."),
        (Named("fp8_static", "static_fp8"),
            "The method fp8_static needs calibration data for the scales of its activations. fp8, whose scales are dynamic, does not."),
        (Named("w4a8", "w4a8_int8"),
            "The method w4a8 needs calibration data, and no reader of its format is known. w4a16 and int8 need none."),
        (Named("w4afp8", "w4a8_fp8"),
            "The method w4afp8 needs calibration data, and no reader of its format is known. w4a16 and fp8 need none."),
        (name => name.StartsWith("torchao", StringComparison.Ordinal) || name.StartsWith("portable", StringComparison.Ordinal),
            "torchao's methods quantize a model when it is loaded. Save with merged_16bit and load that with torchao's config, or use fp8 "
            + "or int8, which vLLM and transformers load as they are."),
        (IsGguf,
            "GGUF is llama.cpp's format. Save with merged_16bit, then run its converter, convert_hf_to_gguf.py, and llama-quantize on the "
            + "merged model."),
    ];

    /// <summary>A name without what does not matter in it.</summary>
    public static string Plain(string name) =>
        string.Concat(name.Where(c => c is not ('-' or '_' or ' '))).ToLowerInvariant();

    /// <summary>The name of a method that is spelled in some way; null if it is none of these.</summary>
    public static string? Find(string spelling) =>
        Table.FirstOrDefault(r => r.Aliases.Append(r.Name).Any(a => Plain(a) == Plain(spelling))).Name;

    /// <summary>True for a method that Unsloth has, and that is refused with a reason.</summary>
    public static bool IsRefused(string spelling) => Reason(spelling) is not null;

    /// <summary>Refuses such a method.</summary>
    /// <exception cref="MergeException">It is one of those.</exception>
    public static void Require(string method)
    {
        if (Reason(method) is { } reason)
        {
            throw Bad("Method", reason, "Get-Help Save-MergedModel -Parameter Method lists the methods.");
        }
    }

    /// <summary>The request for a method, by its name.</summary>
    /// <exception cref="MergeException">It is refused, or has no such option.</exception>
    public static ExportRequest Parse(string method, int? groupSize, bool asymmetric)
    {
        Require(method);
        var name = Find(method) ?? throw Bad(
            "Method", $"The method {method} is not known.", $"Use one of {string.Join(", ", Table.Select(r => r.Name))}.");
        var scheme = Array.Find(Table, r => r.Name == name).Scheme;
        if (asymmetric && scheme != CompressedScheme.W4A16 && scheme.IsSymmetric)
        {
            throw Bad("Asymmetric", $"-Asymmetric belongs to w4a16, but the method is {name}.", "Use -Method w4a16, or leave it out.");
        }

        if (groupSize is not null && scheme.Format != CompressedScheme.W4A16.Format)
        {
            throw Bad(
                "GroupSize", $"-GroupSize belongs to w4a16 and w8a16, but the method is {name}.",
                "Use -Method w4a16 or w8a16, or leave it out.");
        }

        if (groupSize is { } size && (size <= 0 || size % 16 != 0))
        {
            throw Bad(
                "GroupSize", $"A group cannot have {size} columns.",
                "-GroupSize is a multiple of 16; vLLM reads groups of 32, 64 and 128.");
        }

        scheme = asymmetric ? CompressedScheme.W4A16Asymmetric : scheme;
        return new ExportRequest(name, groupSize is { } columns ? scheme.WithGroup(columns) : scheme);
    }

    private static string? Reason(string spelling) => Array.Find(Refusals, r => r.Is(Plain(spelling))).Reason;

    // gguf, q8_0, q4_k_m, iq2_xxs, tq1_0, and Unsloth's names of its presets.
    private static bool IsGguf(string name) =>
        name.StartsWith("gguf", StringComparison.Ordinal) || name is "notquantized" or "fastquantized" or "quantized"
        || (name.IndexOf('q') is >= 0 and <= 1 and var q && name.Length > q + 1 && char.IsAsciiDigit(name[q + 1]));

    private static Func<string, bool> Named(params string[] names) => name => names.Any(n => Plain(n) == name);

    private static MergeException Bad(string parameter, string message, string advice) =>
        new(MergeError.InvalidOption, message, parameter, advice);
}
