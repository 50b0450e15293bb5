namespace UnslothMerge.Verification.Placement;

/// <summary>A tensor of an adapter.</summary>
/// <param name="Module">The module that it belongs to, as the adapter calls it.</param>
/// <param name="Part">What it is there: <c>lora_A</c>; of a saved module the parameter's name.</param>
/// <param name="Depth">How many wrappers lie around the one that it belongs to: PEFT nests one for each parameter.</param>
/// <param name="Tensor">The tensor.</param>
internal sealed record AdapterPart(string Module, string Part, int Depth, StoredTensor Tensor);

/// <summary>What an adapter's tensors belong to, read from their names as PEFT's <c>save_pretrained</c> and raw dumps write them.</summary>
internal sealed partial class AdapterFile
{
    private readonly ModuleKeys? _alphas;

    /// <summary>Reads an adapter.</summary>
    /// <param name="config">adapter_config.json.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="model">The model that it was made for: where a kind's own names are not known, its modules tell names apart.</param>
    public AdapterFile(JsonObject config, IReadOnlyList<StoredTensor> tensors, RunningModel model)
    {
        Config = config;

        // Python names groups by (?P<…>, and calls the end \Z.
        _alphas = (config["alpha_pattern"] as JsonObject)?.Select(p => p.Key) is not { } keys ? null : new ModuleKeys(
            keys, k => Regex.Replace(k, @"\(\?P<", "(?<").Replace(@"\Z", @"\z", StringComparison.Ordinal), MergeError.InvalidAdapter,
            k => $"'{k}' of alpha_pattern", target: null);
        Parts = [.. tensors.Where(t => !IsShared(t.Name)).Select(t => Read(t, model))];
        Modules = Parts.ToLookup(p => p.Module);
        ModuleOf = Parts.DistinctBy(p => p.Tensor.Name).ToDictionary(p => p.Tensor.Name, p => p.Module, StringComparer.Ordinal);
        View = model.ViewOf([.. Parts.Where(p => p.Part is not ("weight" or "bias")).Select(p => p.Module).Distinct()]);
    }

    /// <summary>By which of the model's names the adapter calls its modules.</summary>
    public int View { get; }

    /// <summary>adapter_config.json.</summary>
    public JsonObject Config { get; }

    /// <summary>The tensors, but for those that all modules share.</summary>
    public IReadOnlyList<AdapterPart> Parts { get; }

    /// <summary>The module of each tensor, by its name in the file.</summary>
    public IReadOnlyDictionary<string, string> ModuleOf { get; }

    /// <summary>The tensors by module.</summary>
    public ILookup<string, AdapterPart> Modules { get; }

    /// <summary>True for a tensor that stands beside the model's modules.</summary>
    public static bool IsShared(string name) => name.StartsWith("base_model.", StringComparison.Ordinal)
        && !name.StartsWith("base_model.model.", StringComparison.Ordinal);

    /// <summary>alpha / r or alpha / √r; a pattern's first key that fits counts, as PEFT reads them.</summary>
    /// <param name="name">The module, or the parameter that was adapted itself.</param>
    /// <param name="rank">The rank of the tensors.</param>
    public double? Scale(string name, long rank)
    {
        var alpha = _alphas?.Find(name) is >= 0 and var place ? Config["alpha_pattern"]!.AsObject().GetAt(place).Value : null;
        var isRoot = Config.Bool("use_rslora") == true || Config.Number("use_rslora") == 1;
        return ((double?)alpha ?? Config.Number("lora_alpha")) / (isRoot ? Math.Sqrt(rank) : rank);
    }

    /// <summary>The release of PEFT that wrote the adapter; null before 0.18.</summary>
    public Version? Release => Config.String("peft_version") is { } text && Numbers().Match(text) is { Success: true } match
        ? Version.Parse(match.Value) : null;

    private static AdapterPart Read(StoredTensor tensor, RunningModel model)
    {
        var name = Outside().Replace(tensor.Name, "");
        if (Lora().Match(name) is { Success: true } lora)
        {
            var path = lora.Groups["module"].Value;
            var depth = 0;
            for (var at = path; at.EndsWith(".base_layer", StringComparison.Ordinal); depth++)
            {
                at = at[..^".base_layer".Length];
            }

            return new AdapterPart(Wrapper().Replace(path, ""), lora.Groups["part"].Value + lora.Groups["bias"].Value, depth, tensor);
        }

        // The longest beginning that is a module; the parts of other kinds have dots in their names, too.
        var plain = Wrapper().Replace(name, "");
        var dots = plain.Index().Where(c => c.Item == '.').Select(c => c.Index).Reverse();
        var dot = dots.FirstOrDefault(d => model.HasModule(plain[..d]), Math.Max(plain.LastIndexOf('.'), 0));
        return new AdapterPart(plain[..dot], plain[(dot + 1)..], 0, tensor);
    }

    // What trainers wrap around modules, and PEFT around the model.
    [GeneratedRegex(
        @"(?<=^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(module\.)+(?=base_model\.)|^base_model\.model\.",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Outside();

    [GeneratedRegex(
        @"^(?<module>.+)\.(?<part>lora_(embedding_)?[AB])(\.(?!weight$|bias$)[^.]+)?(\.weight|(?<bias>\.bias))?$",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Lora();

    // What PEFT wraps around a module, with an adapter's name in raw dumps.
    [GeneratedRegex(
        @"(?<=.)\.(base_layer|original_module|token_adapter|ln_tuning_layers(\.default)?"
            + @"|modules_to_save(\.[^.]+(?=\.(weight|bias)$))?)(?=\.|$)",
        RegexOptions.ExplicitCapture)]
    private static partial Regex Wrapper();

    [GeneratedRegex(@"^\d+\.\d+(\.\d+)?")]
    private static partial Regex Numbers();
}
