using UnslothMerge.Adapters.Kinds;

namespace UnslothMerge.Adapters;

/// <summary>An adapter tensor's name, taken apart: <c>base_model.model.model.layers.0.mlp.up_proj.lora_A.weight</c> is the part
/// <c>lora_A.weight</c> of the module <c>model.layers.0.mlp.up_proj</c>. The depth is the number of wrappers of the same module around the
/// one that it belongs to: PEFT nests one wrapper per parameter.</summary>
internal sealed record AdapterName(string Module, string Part, int Depth = 0);

/// <summary>Reads the names that PEFT gives to an adapter's tensors, also those of raw dumps in which the adapter's name was
/// left.</summary>
internal static partial class AdapterNames
{
    private const string Prefix = "base_model.model.";
    private const string SharedPrefix = "base_model.";
    private const string Wrapper = "base_layer";

    private static readonly string[] Wrappers = [Wrapper, "original_module", "token_adapter"];

    /// <summary>Takes a name apart. What is no part of a known kind of adapter is a module's own parameter.</summary>
    public static AdapterName Parse(string name)
    {
        var plain = Plain(name);
        foreach (var part in AdapterKinds.Parts)
        {
            if (Ending(plain, part) is { } module)
            {
                return new AdapterName(WithoutWrappers(module), part, Depth(module));
            }
        }

        var parameter = TunedCopyPattern().Replace(SavedModulePattern().Replace(plain, "."), ".");
        var dot = parameter.LastIndexOf('.');
        return dot < 0 ? new AdapterName("", parameter) : new AdapterName(WithoutWrappers(parameter[..dot]), parameter[(dot + 1)..]);
    }

    /// <summary>The name that PEFT's <c>save_pretrained</c> gives to a tensor: with <c>base_model.model.</c>, without an adapter's name and
    /// what trainers wrap around a model.</summary>
    public static string Saved(string name)
    {
        var plain = Plain(name);
        if (plain.StartsWith(SharedPrefix, StringComparison.Ordinal))
        {
            return plain;
        }

        foreach (var part in AdapterKinds.Parts)
        {
            if (Ending(plain, part) is { } module)
            {
                return $"{Prefix}{module}.{(part == Magnitude.RawVector ? Magnitude.Vector : part)}";
            }
        }

        return Prefix + RawTunedCopyPattern().Replace(SavedModulePattern().Replace(plain, "."), ".ln_tuning_layers.");
    }

    /// <summary>The copies of what is also there as <c>X.modules_to_save.weight</c>, which PEFT loads: <c>X.weight</c> and
    /// <c>X.original_module.weight</c>.</summary>
    public static IReadOnlySet<string> Superseded(IEnumerable<string> names)
    {
        var copies = names.ToLookup(n => SavedModulePattern().IsMatch(n));
        var saved = copies[true].Select(Parse).ToHashSet();
        return copies[false].Where(n => saved.Count > 0 && saved.Contains(Parse(n))).ToHashSet(StringComparer.Ordinal);
    }

    /// <summary>The name of a tensor that all modules of an adapter share, without <c>base_model.</c>; null for all others. The shared
    /// tensors are those that the adapter's kind knows: <c>vera_A</c> …</summary>
    public static string? Shared(string name, IEnumerable<string> shared)
    {
        if (!name.StartsWith(SharedPrefix, StringComparison.Ordinal) || name.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return null;
        }

        var plain = name[SharedPrefix.Length..];
        return shared.Any(s => plain == s || plain.StartsWith(s + ".", StringComparison.Ordinal)) ? plain : null;
    }

    private static string Plain(string name)
    {
        name = TrainerPattern().Replace(name, "");
        return name.StartsWith(Prefix, StringComparison.Ordinal) ? name[Prefix.Length..] : name;
    }

    // The module before a part, where the part may have an adapter's name in it: lora_A.default.weight, lora_embedding_A.default.
    private static string? Ending(string name, string part)
    {
        if (EndsWithSegment(name, part))
        {
            return name[..^(part.Length + 1)];
        }

        var dot = part.IndexOf('.', StringComparison.Ordinal);
        var key = dot < 0 ? part : part.AsSpan(0, dot);
        var rest = part.AsSpan(key.Length);
        if (!name.AsSpan().EndsWith(rest, StringComparison.Ordinal))
        {
            return null;
        }

        var infix = name.AsSpan(0, name.Length - rest.Length);
        var before = infix.LastIndexOf('.');
        return before > 0 && before < infix.Length - 1 && EndsWithSegment(infix[..before], key) ? name[..(before - key.Length - 1)] : null;
    }

    private static bool EndsWithSegment(ReadOnlySpan<char> name, ReadOnlySpan<char> segment) =>
        name.Length > segment.Length && name[^(segment.Length + 1)] == '.' && name.EndsWith(segment, StringComparison.Ordinal);

    // PEFT wraps an adapted layer in one that calls it base_layer, a saved one in one that calls it original_module, and one with trained
    // tokens in two.
    private static string WithoutWrappers(string module) => Wrappers.Any(w => module.Contains(w, StringComparison.Ordinal))
        ? string.Join('.', module.Split('.').Where((s, i) => i == 0 || !Wrappers.Contains(s)))
        : module;

    private static int Depth(ReadOnlySpan<char> module)
    {
        var depth = 0;
        for (; EndsWithSegment(module, Wrapper); depth++)
        {
            module = module[..^(Wrapper.Length + 1)];
        }

        return module.SequenceEqual(Wrapper) ? depth + 1 : depth;
    }

    // modules_to_save are kept as 'X.modules_to_save.<adapter>.weight' while training.
    [GeneratedRegex(@"\.modules_to_save\.([^.]+\.)?(?=(weight|bias)$)", RegexOptions.ExplicitCapture)]
    private static partial Regex SavedModulePattern();

    // LN tuning trains a copy of a layer: 'X.ln_tuning_layers.weight'.
    [GeneratedRegex(@"\.ln_tuning_layers\.(default\.)?", RegexOptions.ExplicitCapture)]
    private static partial Regex TunedCopyPattern();

    [GeneratedRegex(@"\.ln_tuning_layers\.default\.", RegexOptions.ExplicitCapture)]
    private static partial Regex RawTunedCopyPattern();

    // torch.compile, activation checkpointing and FSDP wrap modules anywhere; DDP and DeepSpeed the whole model.
    [GeneratedRegex(
        @"(?<=^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(module\.)+(?=base_model\.)",
        RegexOptions.ExplicitCapture)]
    private static partial Regex TrainerPattern();
}
