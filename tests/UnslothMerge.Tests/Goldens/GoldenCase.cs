namespace UnslothMerge.Tests.Goldens;

/// <summary>One case of tests/Fixtures/cases: what to merge and what must come out.</summary>
internal sealed class GoldenCase(string name)
{
    // Another set of the same form can be tried in place of the fixtures.
    private static readonly string Root = Environment.GetEnvironmentVariable("UNSLOTHMERGE_GOLDENS") ?? Fixtures.Path;

    private readonly JsonElement _json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Root, "cases", name, "case.json"))).RootElement;

    public static IReadOnlyList<string> All { get; } =
        [.. Directory.EnumerateDirectories(Path.Combine(Root, "cases")).Select(d => Path.GetFileName(d)).Order(StringComparer.Ordinal)];

    public string Folder => Path.Combine(Root, "cases", name);

    public string Base => Path.Combine(Root, _json.GetProperty("base").GetString()!);

    public IReadOnlyList<(string Path, double Weight)> Adapters =>
        [.. _json.GetProperty("adapters").EnumerateArray()
            .Select(a => (Path.Combine(Folder, a.GetProperty("path").GetString()!), a.GetProperty("weight").GetDouble()))];

    public IReadOnlyDictionary<string, JsonElement> Options =>
        _json.GetProperty("options").EnumerateObject().ToDictionary(o => o.Name, o => o.Value);

    /// <summary>The dtype to save in; null for the base's.</summary>
    public TensorType? DType => Options.TryGetValue("DType", out var type) ? TensorTypes.FromTorchName(type.GetString()) : null;

    public JsonElement Expect => _json.GetProperty("expect");

    public string Outcome => Expect.GetProperty("outcome").GetString()!;

    public IReadOnlyList<string> Names(string key) =>
        Expect.TryGetProperty(key, out var list) ? [.. list.EnumerateArray().Select(e => e.GetString()!)] : [];

    /// <summary>Plans the merge as the options say.</summary>
    public MergePlan Plan() => MergePlanner.Plan(
        ModelDirectory.Open(Base), Adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a.Path), a.Weight)), new PlanOptions
        {
            BaseIsResidual = Options.TryGetValue("BaseIsResidual", out var residual) && residual.GetBoolean(),
            MoeLoraLayout = Parse<MoeLoraLayout>("MoeLoraLayout"),
            MoeOrientation = Parse<MoeOrientation>("MoeOrientation"),
        });

    /// <summary>The dtype that a tensor must have; null if it is free.</summary>
    public TensorType? TypeOf(string tensor) =>
        (Expect.TryGetProperty("dtypes", out var types) && types.TryGetProperty(tensor, out var type) ? type : Expect.GetProperty("dtype"))
            .GetString() is { } name
            ? Enum.Parse<TensorType>(name) : null;

    private T? Parse<T>(string option)
        where T : struct, Enum => Options.TryGetValue(option, out var value) ? Enum.Parse<T>(value.GetString()!, ignoreCase: true) : null;
}
