namespace UnslothMerge.Tests.Goldens;

/// <summary>One case of tests/Fixtures/exports, or of another set of the same form.</summary>
internal sealed class ExportCase(string name)
{
    private static readonly string Root =
        Environment.GetEnvironmentVariable("UNSLOTHMERGE_EXPORTS") ?? Path.Combine(Fixtures.Path, "exports");

    private readonly JsonElement _json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Root, "cases", name, "case.json"))).RootElement;

    public static IReadOnlyList<string> All { get; } =
        [.. Directory.EnumerateDirectories(Path.Combine(Root, "cases")).Select(d => Path.GetFileName(d)).Order(StringComparer.Ordinal)];

    public string Folder => Path.Combine(Root, "cases", name);

    public string Base => Path.Combine(Root, _json.GetProperty("base").GetString()!);

    public JsonElement Expect => _json.GetProperty("expect");

    public string Outcome => Expect.GetProperty("outcome").GetString()!;

    public IReadOnlyList<string> Names(string key) =>
        Expect.TryGetProperty(key, out var list) ? [.. list.EnumerateArray().Select(e => e.GetString()!)] : [];

    /// <summary>Merges as the options say, and saves.</summary>
    public MergePlan Save(string output)
    {
        var options = _json.GetProperty("options");
        var request = ExportMethods.Parse(
            options.GetProperty("Method").GetString()!,
            options.TryGetProperty("GroupSize", out var size) ? size.GetInt32() : null,
            options.TryGetProperty("Asymmetric", out var asymmetric) && asymmetric.GetBoolean());
        var adapters = _json.GetProperty("adapters").EnumerateArray().Select(a => new AdapterStep(
            AdapterDirectory.Open(Path.Combine(Folder, a.GetProperty("path").GetString()!)), a.GetProperty("weight").GetDouble()));
        var plan = MergePlanner.Plan(ModelDirectory.Open(Base), adapters);
        var exclude = options.TryGetProperty("Exclude", out var list) ? list.EnumerateArray().Select(e => e.GetString()!).ToList() : [];
        TinyModel.Save(TinyModel.WritePlan(plan, quantization: request with { Exclude = exclude }), output);
        return plan;
    }
}
