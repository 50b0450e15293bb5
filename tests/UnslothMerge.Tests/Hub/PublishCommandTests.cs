using UnslothMerge.Tests.Hub.StandIn;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>What a user of the cmdlets does and sees.</summary>
public sealed class PublishCommandTests : HubTests
{
    [Fact]
    public void A_merge_is_saved_and_published_and_published_again()
    {
        Server.Add("org/old", ("pytorch_model.bin", [1, 2, 3]));
        var (@base, adapter, @out) = (Fixtures.Base("llama-bf16"), Fixtures.Adapter("lora-all-linear"), Temp["out"]);
        var lines = Run($$"""
            $merge = { Merge-LoraModel '{{@base}}' '{{adapter}}' }
            & $merge | Save-MergedModel '{{@out}}' -PushToHub org/old -WhatIf
            & $merge | Save-MergedModel -PushToHub org/none -WhatIf
            "nothing $(Test-Path '{{@out}}')"
            $saved = & $merge | Save-MergedModel '{{@out}}' -PushToHub org/new -Private -Tag chat -CommitMessage First -Verbose 4>&1 5>&1
            "saved $($saved.Where{ $_ -is [UnslothMerge.PowerShell.SavedModelShard] }.Name)"
            $published = $saved.Where{ $_ -is [UnslothMerge.PowerShell.PublishedModel] }
            "published $($published.Repository) $($published.IsNew) $($published.Commit.Length)"
            $again = Publish-MergedModel '{{@out}}' {{Server.Endpoint}}org/new -Token {{HubServer.WriteToken}} -Verbose 4>&1
            "again $($again.IsNew) $($again.BytesSent) $($again.BytesSkipped -gt 10000)"
            $replaced = Publish-MergedModel '{{@out}}' org/old -CreatePr -CommitDescription More
            "replaced $($replaced.PullRequest) $($replaced.Files.Where{ $_.Outcome -eq 'Deleted' })"
            $replaced | Format-Table | Out-String -Width 200
            try { Publish-MergedModel '{{@out}}' org/new -Token hf_wrongWrongWrongWrong -Verbose } catch { "$($_.FullyQualifiedErrorId)" }
            try { './a', '{{@out}}' | Publish-MergedModel -Repository org/new } catch { "several $($_.FullyQualifiedErrorId) $_" }
            $two = 'org/two', 'org/three' | ForEach-Object { [pscustomobject]@{ Path = '{{@out}}'; Repository = $_ } } |
                Publish-MergedModel
            "piped $($two.Repository) $(('{{@out}}' | Publish-MergedModel -Repository org/four).Repository)"
            try { @() | Publish-MergedModel -Repository org/new } catch { "$_" }
            try { Publish-MergedModel '{{@out}}' not/a/name } catch { "$($_.FullyQualifiedErrorId)" }
            $Error | ForEach-Object { "$_ $($_.Exception)" }
            """);
        var text = string.Join('\n', lines);
        Assert.Contains("nothing False", lines);
        Assert.Contains("'org/old' in one commit", text, StringComparison.Ordinal);
        Assert.Contains("on target \"org/none\"", text, StringComparison.Ordinal);
        Assert.Contains("deletes there, as the new model replaces it: pytorch_model.bin", text, StringComparison.Ordinal);
        Assert.Contains("saved model.safetensors", lines);
        Assert.Contains("published org/new True 40", lines);
        Assert.Contains("again False 0 True", lines);
        Assert.Contains($"replaced {Server.Endpoint}org/old/discussions/1 pytorch_model.bin", lines);
        Assert.Contains("HubAccessDenied,UnslothMerge.PowerShell.Commands.PublishMergedModelCommand", lines);
        Assert.Contains("InvalidArgument,UnslothMerge.PowerShell.Commands.PublishMergedModelCommand", lines);
        Assert.Contains(lines, l => l.StartsWith(
            $"several InvalidArgument,UnslothMerge.PowerShell.Commands.PublishMergedModelCommand 2 models would be published to 'org/new', "
            + $"each in the place of the one before: './a', '{@out}'.", StringComparison.Ordinal));
        Assert.Contains("piped org/two org/three org/four", lines);
        Assert.Contains("No model came through the pipeline.", text, StringComparison.Ordinal);
        Assert.DoesNotContain("hf_", text, StringComparison.Ordinal);

        var repository = Server.Repositories["org/new"];
        Assert.True(repository.IsPrivate);
        Assert.Equal(["initial commit", "First"], repository.Commits.Select(c => c.Title));
        Assert.All(Directory.EnumerateFiles(@out), f => Assert.Equal(File.ReadAllBytes(f), Server.Read("org/new", Path.GetFileName(f))));
        Assert.Contains("chat", Encoding.UTF8.GetString(Server.Read("org/new", "README.md")), StringComparison.Ordinal);
    }

    [Fact]
    public void A_merge_is_published_without_a_destination()
    {
        var temporary = Directory.CreateDirectory(Temp["temporary"]).FullName;
        var lines = Run($$"""
            $merge = { Merge-LoraModel '{{Fixtures.Base("llama-bf16")}}' '{{Fixtures.Adapter("lora-all-linear")}}' }
            $plan = Get-MergeMemoryPlan '{{Fixtures.Base("llama-bf16")}}' -MaxShardSize 6kB
            "plan $($plan.TemporaryBytes -gt 6000) $($plan.TemporaryBytes -lt $plan.OutputBytes)"
            $null = & $merge | Save-MergedModel '{{Temp["local/out"]}}' -MaxShardSize 6kB
            $saved = & $merge | Save-MergedModel -PushToHub org/out -MaxShardSize 6kB -TemporaryLocation '{{temporary}}'
            "saved $($saved.Where{ $_ -is [UnslothMerge.PowerShell.SavedModelShard] }.Count -gt 1) $($saved[-1].Repository)"
            $lora = & $merge | Save-MergedModel -PushToHub org/lora -Method lora -TemporaryLocation '{{temporary}}'
            "lora $($lora.Files.Name -contains 'adapter_model.safetensors')"
            """);
        Assert.Equal(["plan True True", "saved True org/out", "lora True"], lines);
        Assert.Empty(Directory.EnumerateFileSystemEntries(temporary));
        Assert.All(Directory.EnumerateFiles(Temp["local/out"]), f =>
            Assert.Equal(File.ReadAllBytes(f), Server.Read("org/out", Path.GetFileName(f))));
    }

    [Fact]
    public void A_damaged_base_is_found_before_the_commit_and_downloaded_again_once_it_is_deleted()
    {
        Server.Add("org/base", [.. Directory.EnumerateFiles(Fixtures.Base("llama-bf16"))
            .Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);
        var lines = Run($$"""
            $save = { Merge-LoraModel org/base | Save-MergedModel -PushToHub org/out -TemporaryLocation '{{Temp.Path}}' -Verify }
            $null = Merge-LoraModel org/base | Save-MergedModel '{{Temp["local"]}}'
            $blob = (Get-Item '{{Temp["home/hub"]}}/models--org--base/snapshots/*/model.safetensors').ResolvedTarget
            $bytes = [IO.File]::ReadAllBytes($blob)
            $bytes[-1] = $bytes[-1] -bxor 1
            [IO.File]::WriteAllBytes($blob, $bytes)
            try { & $save } catch { "$_".ReplaceLineEndings(' ') }
            Remove-Item $blob
            "again $((& $save)[-1].IsNew)"
            """);
        Assert.Contains(lines, l => Regex.IsMatch(l, "model.safetensors' is damaged: .* Delete '.*/blobs/[0-9a-f]{64}'"));
        Assert.Contains("again True", lines);
        Assert.Equal(2, Server.Repositories["org/out"].Commits.Count);
        Assert.Equal(File.ReadAllBytes(Temp["local/model.safetensors"]), Server.Read("org/out", "model.safetensors"));
    }

    /// <summary>The command that goes on is the one that the error names, as it stands there.</summary>
    [Fact]
    public void What_is_saved_but_not_published_is_gone_on_with()
    {
        foreach (var repository in new[] { "org/it", "org/parts" })
        {
            Server.Fail(new HubFault(FaultKind.Status, "POST", $"/{repository}.git/") { Status = 403, Message = "Storage limit reached" });
        }

        var lines = Run($$"""
            $merge = { Merge-LoraModel '{{Fixtures.Base("llama-bf16")}}' '{{Fixtures.Adapter("lora-all-linear")}}' }
            function Repeat([scriptblock] $do) {
                try { $null = & $do; 'no error' } catch { $told = "$_"; "$($_.FullyQualifiedErrorId) $told".ReplaceLineEndings(' ') }
                (Invoke-Expression ([regex]::Match($told, 'Publish-MergedModel .*').Value)).Repository
            }
            $commit = @{ Private = $true; Revision = 'dev'; CommitMessage = "It's here" }
            Repeat { & $merge | Save-MergedModel '{{Temp["it"]}}' -PushToHub org/it @commit }
            $null = 1, 2 | ForEach-Object { & $merge | Save-MergedModel '{{Temp["parts"]}}' -Part "$_/2" -MaxShardSize 3kB }
            Repeat { Complete-MergedModel '{{Temp["parts"]}}' -PushToHub org/parts }
            """);
        Assert.Matches("^HubRefused,.*no storage left.*Go on without merging again: Publish-MergedModel .* org/it -Private", lines[0]);
        Assert.Equal("org/it", lines[1]);
        Assert.Matches("^HubRefused,.*Go on without merging again: Publish-MergedModel .* org/parts$", lines[2]);
        Assert.Equal("org/parts", lines[3]);
        Assert.True(Server.Repositories["org/it"].IsPrivate);
        Assert.Equal("It's here", Server.Repositories["org/it"].Find("dev")!.Title);
        Assert.All(Directory.EnumerateFiles(Temp["it"]), f =>
            Assert.Equal(File.ReadAllBytes(f), Server.Read("org/it", Path.GetFileName(f), "dev")));
    }

    [Fact]
    public void An_adapter_is_published_without_the_path_of_its_base()
    {
        var lines = Run($$"""
            $config = '{{Temp["adapter"]}}/adapter_config.json'
            Copy-Item -Recurse '{{Fixtures.Adapter("lora-all-linear")}}' '{{Temp["adapter"]}}'
            $json = Get-Content $config -Raw | ConvertFrom-Json
            $json.base_model_name_or_path = '{{Temp["base"]}}'
            $json | ConvertTo-Json -Depth 9 | Set-Content $config
            $saved = Merge-LoraModel '{{Fixtures.Base("llama-bf16")}}' '{{Temp["adapter"]}}' |
                Save-MergedModel '{{Temp["lora"]}}' -Method lora -PushToHub org/lora 3>&1
            $saved.Where{ $_ -is [System.Management.Automation.WarningRecord] }.Message
            """);
        Assert.Contains(lines, l => l.Contains("local path", StringComparison.Ordinal));
        Assert.All(Server.Repositories["org/lora"].Head.Files.Keys, f => Assert.DoesNotContain(Temp.Path,
            Encoding.UTF8.GetString(Server.Read("org/lora", f)), StringComparison.Ordinal));
    }

    /// <summary>No part has the base on its disk, nor its shards on the shared one.</summary>
    [Fact]
    public void Parts_are_sent_and_committed_together()
    {
        Server.Add("org/base", [.. Directory.EnumerateFiles(Fixtures.Base("llama-bf16"))
            .Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);
        Server.Add("other/out");
        Server.Add("third/out");
        var (temporary, place) = (Directory.CreateDirectory(Temp["temporary"]).FullName, Directory.CreateDirectory(Temp["place"]).FullName);
        var lines = Run($$"""
            $WarningPreference = 'SilentlyContinue'
            function Told([scriptblock] $do) {
                try { $null = & $do; 'no error' } catch { "$($_.FullyQualifiedErrorId) $_".ReplaceLineEndings(' ') }
            }
            $merge = { Merge-LoraModel org/base '{{Fixtures.Adapter("lora-all-linear")}}' -Stream }
            $save = @{ MaxShardSize = '3kB'; TemporaryLocation = '{{temporary}}' }
            $null = & $merge | Save-MergedModel -PushToHub other/out @save
            Told { & $merge | Save-MergedModel -PushToHub org/out -Part 1/3 @save }
            Told { & $merge | Save-MergedModel '{{place}}/out' -PushToHub org/out -Part 1/3 -CommitMessage Early @save }
            & $merge | Save-MergedModel '{{place}}/out' -PushToHub org/out -Part 1/3 -WhatIf @save
            "nothing $(@(Get-ChildItem '{{place}}' -Force).Count)"
            $parts = 3, 1, 2 | ForEach-Object { & $merge | Save-MergedModel '{{place}}/out' -PushToHub org/out -Private -Part "$_/3" @save }
            "parts $($parts.Count) $($parts[0].Path)"
            Told { Complete-MergedModel '{{place}}/out' }
            Told { Complete-MergedModel '{{place}}/out' -PushToHub org/other }
            Complete-MergedModel '{{place}}/out' -PushToHub org/out -WhatIf
            $done = Complete-MergedModel '{{place}}/out' -PushToHub org/out -CommitMessage Together
            $isThere = $done[0].Path -match '/org/out/resolve/[0-9a-f]{40}/model-'
            "done $($done.Count) $($done[-1].Repository) $($done[-1].BytesSent) $isThere"
            $null = 1, 2 | ForEach-Object { & $merge | Save-MergedModel '{{place}}/local/out' -Part "$_/2" -MaxShardSize 3kB }
            $local = Complete-MergedModel '{{place}}/local/out' -PushToHub org/local
            "local $($local.Count) $($local[-1].IsNew)"
            $run = @{ Base = 'org/base'; Adapter = '{{Fixtures.Adapter("lora-all-linear")}}'; Out = '{{place}}/out' }
            $run.Repository = 'third/out'
            $null = 2, 1 | ForEach-Object { & '{{Fixtures.Root}}/examples/part.ps1' @run -Part "$_/2" -Stream -MaxShardSize 3kB }
            $null = & '{{Fixtures.Root}}/examples/complete.ps1' '{{place}}/out' third/out
            """);
        var text = string.Join('\n', lines);
        Assert.Matches("^InvalidArgument,.*place for their records", lines[0]);
        Assert.Matches("^InvalidArgument,.*-CommitMessage would have no effect.*Complete-MergedModel", lines[1]);
        Assert.Matches("What if: .*part 1/3 of merged_16bit.*sent to 'org/out' without a commit", text);
        Assert.Contains("nothing 0", lines);
        Assert.Contains($"parts 7 {Server.Endpoint}org/out/resolve/main/model-00006-of-00007.safetensors", lines);
        Assert.Equal(2, lines.Count(l => Regex.IsMatch(l, "^InvalidArgument,.*were sent to 'org/out'.*-PushToHub org/out")));
        Assert.Matches(
            @"What if: Commit merged_16bit: 7 shards of 3 parts\. Publish \d+ files, .* to 'org/out' in one commit", text);
        Assert.Contains("done 8 org/out 0 True", lines);
        Assert.Contains("local 8 True", lines);

        var (whole, repository) = (Server.Repositories["other/out"].Head, Server.Repositories["org/out"]);
        Assert.True(repository.IsPrivate);
        Assert.Equal(["initial commit", "Together"], repository.Commits.Select(c => c.Title));
        Assert.Equal(whole.Files.Keys, repository.Head.Files.Keys);
        Assert.All(["org/out", "org/local", "third/out"], id => Assert.All(whole.Files.Keys, f =>
            Assert.Equal(Server.Read("other/out", f), Server.Read(id, f))));
        Assert.Empty(Directory.EnumerateFileSystemEntries(temporary));
        Assert.Equal([Path.Combine(place, "local")], Directory.EnumerateFileSystemEntries(place));
    }

    private IReadOnlyList<string> Run(string command) => PowerShellProcess.RunWithModule(command, Server.Environment(Temp["home"]));
}
