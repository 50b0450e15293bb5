using UnslothMerge.Tests.Hub.StandIn;
using UnslothMerge.Tests.PowerShell;

namespace UnslothMerge.Tests.Hub;

/// <summary>What a user reads when the Hub says no: the repository, what to do, and how the Hub's operators find the request.</summary>
public sealed class HubErrorTests : HubTests
{
    [Fact]
    public void Errors_name_the_repository_the_remedy_and_the_request()
    {
        var model = Fixtures.Base("llama-bf16");
        foreach (var name in new[] { "base", "gated", "private", "full", "busy" })
        {
            Server.Add($"org/{name}", [.. Directory.EnumerateFiles(model).Select(f => (Path.GetFileName(f), File.ReadAllBytes(f)))]);
        }

        Server.Repositories["org/gated"].IsGated = Server.Repositories["org/private"].IsPrivate = true;
        Server.Renamed["org/old"] = "org/base";
        Server.Fail(new HubFault(FaultKind.Status, "POST", "/org/full.git/") { Status = 403, Message = "Storage limit reached" });
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models/org/busy", Times: 99)
        {
            Status = 429, Headers = [("RateLimit", "\"api\";r=0;t=0")],
        });
        Server.Objects.HideFromBatch.UnionWith(Server.Objects.Objects.Keys);
        var lines = PowerShellProcess.RunWithModule($$"""
            $WarningPreference = 'SilentlyContinue'
            function Told([string] $name, [scriptblock] $do) {
                $told = try { $null = & $do; 'no error' } catch { "$($_.FullyQualifiedErrorId.Split(',')[0]): $_" }
                "$name> $told".ReplaceLineEndings(' ')
            }
            $out = '{{Temp["out"]}}'
            $null = Merge-LoraModel '{{model}}' | Save-MergedModel $out -DType float32
            Told revision { Merge-LoraModel org/base@v9 }
            Told folder { Merge-LoraModel org/base org/base/checkpoint-1 }
            Told renamed { Publish-MergedModel $out org/old }
            Told renamedRead { Get-HubModel org/old }
            Told full { Publish-MergedModel $out org/full }
            Told busy { Merge-LoraModel org/busy }
            Told foreign { Publish-MergedModel $out other/out }
            Told wrong { Merge-LoraModel org/base -Token hf_wrongWrongWrong }
            $env:HF_TOKEN = '{{HubServer.ReadToken}}'
            Told readOnly { Publish-MergedModel $out org/base }
            $env:HF_TOKEN = ''
            Told gated { Merge-LoraModel org/gated }
            Told private { Merge-LoraModel org/private }
            Told nobody { Publish-MergedModel $out org/base }
            """, Server.Environment(Temp["home"]));
        var told = lines.Select(l => l.Split("> ", 2)).Where(l => l.Length == 2).ToDictionary(l => l[0], l => l[1]);
        var address = Regex.Escape(Server.Endpoint.ToString());
        Assert.Matches(@"^HubNotFound: .*'org/base' has no revision 'v9'.*\(request .*-Revision", told["revision"]);
        Assert.Matches("^HubNotFound: .*'org/base' has no folder 'checkpoint-1'", told["folder"]);
        Assert.Matches("^HubRefused: 'org/old' is called 'org/base' now.*Publish to 'org/base'", told["renamed"]);
        Assert.Equal("no error", told["renamedRead"]);
        Assert.Matches(@"^HubRefused: .*no storage left for 'org/full'.*\(request .*Free storage", told["full"]);
        Assert.Matches(@"^HubUnavailable: .*fewer requests about 'org/busy'.*\(request .*Wait some minutes", told["busy"]);
        Assert.Matches("^HubAccessDenied: 'other/out' is not there, and the token of org may not create it", told["foreign"]);
        Assert.Matches(@"^HubAccessDenied: .*not accept the token from -Token for 'org/base'.*\(request .*hf auth login", told["wrong"]);
        Assert.Matches(@"^HubAccessDenied: .*not allowed for 'org/base'.*\(request .*came from HF_TOKEN", told["readOnly"]);
        Assert.Matches(
            $@"^HubAccessDenied: .*'org/gated' is gated.*\(request .*licence at {address}org/gated.*hf auth login", told["gated"]);
        Assert.Matches(@"^HubNotFound: .*'org/private' is not on the Hub .*, or may not.*\(request .*hf auth login", told["private"]);
        Assert.Matches("^HubAccessDenied: Publishing to 'org/base' needs a token.*hf auth login", told["nobody"]);
    }
}
