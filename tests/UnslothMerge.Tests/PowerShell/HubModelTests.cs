using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.PowerShell;

/// <summary>What a user does with models on the Hub.</summary>
public sealed class HubModelTests : FileTests
{
    private static readonly string Base = Fixtures.Base("llama-bf16"), Adapter = Fixtures.Adapter("lora-all-linear");

    private readonly HubServer _server = new();

    public HubModelTests()
    {
        Publish("org/llama-bf16", Base, "");
        Publish("org/adapter", Adapter, "checkpoint-500/");
        _server.Repositories["org/adapter"].Refs["v2"] = _server.Repositories["org/adapter"].Head.Id;
    }

    public override void Dispose()
    {
        _server.Dispose();
        base.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public void A_merge_takes_names()
    {
        var lines = Run($$"""
            Get-HubModel org/llama-bf16 | Where-Object Needed | Where-Object -Not Cached | ForEach-Object { "needs $_" }
            Merge-LoraModel org/llama-bf16 org/adapter/checkpoint-500@v2 -WhatIf
            "cached: $(Test-Path '{{Temp["home/hub"]}}')"
            $tensors = Merge-LoraModel org/llama-bf16 org/adapter@v2 -Subfolder checkpoint-500
            $plan = Get-MergeMemoryPlan org/llama-bf16 org/adapter/checkpoint-500
            "plan: $($plan.DownloadBytes) $($plan.DownloadSeconds -gt 0) $($plan.Base -match '^org/llama-bf16@[0-9a-f]{40}$')"
            $tensors | Save-MergedModel '{{Temp["a"]}}' -WhatIf
            $streamed = Get-MergeMemoryPlan org/llama-bf16 org/adapter/checkpoint-500 -Stream
            "streamed: $($streamed.Stream) $($streamed.StreamBytes) $($streamed.DownloadBytes)"
            $null = $streamed | Merge-LoraModel | Save-MergedModel '{{Temp["e"]}}'
            "weights: $((Get-HubModel org/llama-bf16 | Where-Object Name -eq model.safetensors).Cached)"
            $null = $tensors | Save-MergedModel '{{Temp["a"]}}'
            "weights: $((Get-HubModel org/llama-bf16 | Where-Object Name -eq model.safetensors).Cached)"
            $null = Merge-LoraModel '{{Base}}' '{{Adapter}}' | Save-MergedModel '{{Temp["b"]}}'
            $null = $plan | Merge-LoraModel | Save-MergedModel '{{Temp["c"]}}' -WarningAction SilentlyContinue
            $null = Merge-LoraModel org/llama-bf16 '{{_server.Endpoint}}org/adapter/tree/v2/checkpoint-500' -Offline |
                Save-MergedModel '{{Temp["d"]}}'
            "tested: $(Test-MergedModel '{{Temp["a"]}}' -Base org/llama-bf16 -Adapter org/adapter/checkpoint-500 -Full -Quiet)"
            """);
        var text = string.Join('\n', lines);
        Assert.Contains("needs model.safetensors", lines);
        Assert.DoesNotContain("needs .gitattributes", lines);
        Assert.Matches(@"What if: .*Download \d+ files \(.*\) of 'org/llama-bf16@.*, and 1 file \(.*\) when the merge is saved", text);
        Assert.Matches(@"What if: .*Download \d+ files \(.*\) of 'org/adapter@", text);
        Assert.Matches(@"adapter_model\.safetensors .* from the Hub", text);
        Assert.Contains("cached: False", lines);
        Assert.Contains($"plan: {new FileInfo(Path.Combine(Base, "model.safetensors")).Length} True True", lines);
        Assert.Matches(@"What if: [^#]*Download first 1 file \(.*\) of 'org/llama-bf16@", text);
        Assert.Contains($"streamed: True {new FileInfo(Path.Combine(Base, "model.safetensors")).Length} 0", lines);
        Assert.Equal(["weights: False", "weights: True"], lines.Where(l => l.StartsWith("weights", StringComparison.Ordinal)));
        Assert.Contains("tested: True", lines);
        var expected = File.ReadAllBytes(Temp["b/model.safetensors"]);
        Assert.All(["a", "c", "d", "e"], d => Assert.Equal(expected, File.ReadAllBytes(Temp[$"{d}/model.safetensors"])));
        Assert.Contains("base_model:\n- org/llama-bf16\n- org/adapter\n", File.ReadAllText(Temp["a/README.md"]));
    }

    [Fact]
    public void Mistakes_are_told_with_what_to_do()
    {
        var lines = Run($$"""
            function Told([scriptblock] $do) {
                try { $null = & $do; 'no error' } catch { "$($_.FullyQualifiedErrorId) $_".ReplaceLineEndings(' ') }
            }
            $ErrorActionPreference = 'Stop'
            Told { Merge-LoraModel org/none ./x }
            Told { Merge-LoraModel org/llama-bf16@v9 }
            Told { Merge-LoraModel org/llama-bf16 org/adapter }
            Told { Merge-LoraModel org/llama-bf16 org/adapter -Revision v2 }
            Told { Merge-LoraModel org/llama-bf16 -Offline }
            Told { Merge-LoraModel '{{Base}}' -Stream }
            Told { Get-HubModel what/is/this/../path }
            """);
        Assert.Equal(7, lines.Count);
        Assert.Matches("^HubNotFound,.*'org/none' is no directory here.*not on the Hub", lines[0]);
        Assert.Matches("^HubNotFound,.*'v9'", lines[1]);
        Assert.Matches("^InvalidAdapter,.*checkpoint-500", lines[2]);
        Assert.Matches("^InvalidOption,.*-Revision could belong to each of 'org/llama-bf16', 'org/adapter'", lines[3]);
        Assert.Matches("^Hub(Unavailable|NotFound),.*(cache)", lines[4]);
        Assert.Matches("^InvalidArgument,.*-Stream has no effect", lines[5]);
        Assert.Matches("^InvalidArgument,", lines[6]);
    }

    private IReadOnlyList<string> Run(string command) =>
        PowerShellProcess.RunWithModule(command, [.. _server.Environment(Temp["home"])]);

    private void Publish(string id, string directory, string below) =>
        _server.Add(id, [.. Directory.EnumerateFiles(directory).Select(f => (below + Path.GetFileName(f), File.ReadAllBytes(f)))]);
}
