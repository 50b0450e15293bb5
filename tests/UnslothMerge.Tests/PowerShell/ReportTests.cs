namespace UnslothMerge.Tests.PowerShell;

public sealed partial class ReportTests : FileTests
{
    private const int Layers = 126;

    private static readonly string[] Modules =
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];

    /// <summary>As many tensors as Llama 3.1 405B, each of four numbers.</summary>
    [Fact]
    public void The_page_of_a_large_model_is_small_and_a_browser_shows_it_without_an_error()
    {
        var names = Enumerable.Range(0, Layers).SelectMany(l => Modules.Select(m => $"model.layers.{l}.{m}")).ToArray();
        var adapter = new TinyModel([.. names.Append("model.norm").Select(n => TinyTensor.F32(n + ".weight", [2, 2], 1, 2, 3, 4))])
            .WithLora(1, names).Write(Temp)[0];
        var lines = PowerShellProcess.RunWithModule(
            $"""
            $shards = Merge-LoraModel '{Temp["base"]}' '{adapter}' | Save-MergedModel '{Temp["out"]}'
            (@(Get-MergeMemoryPlan '{Temp["base"]}' '{adapter}') + $shards + (Test-MergedModel '{Temp["out"]}') |
                Export-MergeReport '{Temp["report.html"]}').Length
            $shards.Tensors.Where({'{'} $_.RelativeChange {'}'}).Count
            """);
        Assert.InRange(long.Parse(lines[0], CultureInfo.InvariantCulture), 1, 2_000_000);
        var cells = Layers * Modules.Length;
        Assert.Equal($"{cells}", lines[1]);
        Assert.Equal(cells, Cell().Count(File.ReadAllText(Temp["report.html"])));

        var browser = new[] { "chromium", "chromium-browser", "google-chrome" }
            .SelectMany(n => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(d => Path.Combine(d, n)))
            .FirstOrDefault(File.Exists);
        Assert.SkipWhen(browser is null, "There is no Chromium in PATH: whether a browser shows the page was not tested.");
        var (exit, page, errors) = PowerShellProcess.Start(
            [browser!, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", $"--user-data-dir={Temp["profile"]}",
                "--dump-dom", new Uri(Temp["report.html"]).AbsoluteUri]);
        Assert.Equal(0, exit);
        Assert.Equal(cells, Cell().Count(page));
        Assert.DoesNotContain("CONSOLE", errors, StringComparison.Ordinal);
    }

    [GeneratedRegex("<td style=\"--v:")]
    private static partial Regex Cell();
}
