using UnslothMerge.Tests.Hub.StandIn;

namespace UnslothMerge.Tests.Hub;

/// <summary>Requests, retries and errors, against the stand-in.</summary>
public sealed class HubClientTests : HubTests
{
    private static readonly HubCall Info =
        new(HttpMethod.Get, "/api/models/org/name", "Reading the repository") { Repository = "org/name" };

    [Fact]
    public void A_request_is_answered()
    {
        var sha = Server.Add("org/name", ("config.json", "{}"u8.ToArray())).Head.Id;
        using var client = Client();
        Assert.Equal(sha, client.Json(Info, Stop)["sha"].Text);
        Assert.Empty(Clock.Waits);
    }

    [Fact]
    public void What_may_pass_is_tried_again_after_the_usual_times()
    {
        Server.Add("org/name");
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models", Times: 2));
        Server.Fail(new HubFault(FaultKind.Reset, "GET", "/api/models", Skip: 2));
        Server.Fail(new HubFault(FaultKind.Truncated, "GET", "/api/models", Skip: 3) { At = 7 });
        using var client = Client();
        Assert.True(client.Json(Info, Stop).IsThere);
        Assert.Equal([1, 2, 4, 8], Clock.Waits.Select(w => (int)w.TotalSeconds));
        Assert.Equal(4, client.TakeNotices().Count());
        Assert.Empty(client.TakeNotices());
    }

    [Fact]
    public void It_is_given_up_after_five_more_tries()
    {
        Server.Add("org/name");
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models", Times: 100) { Status = 502 });
        using var client = Client();
        var error = Errors.Expect(MergeError.HubUnavailable, () => client.Json(Info, Stop), "502", "org/name", "request-6");
        Assert.Equal("request-6", Assert.IsType<HubException>(error).RequestId);
        Assert.Equal([1, 2, 4, 8, 8], Clock.Waits.Select(w => (int)w.TotalSeconds));
    }

    [Fact]
    public void A_call_that_is_made_once_is()
    {
        Server.Add("org/name");
        Server.Fail(new HubFault(FaultKind.Reset, "GET", "/api/models"));
        using var client = Client();
        Errors.Expect(MergeError.HubUnavailable, () => client.Json(Info with { Retry = HubRetry.Never }, Stop), "cannot be reached");
        Assert.True(client.Json(Info, Stop).IsThere);
    }

    [Theory]
    [InlineData("RateLimit", "\"api\";r=0;t=41", 42)]
    [InlineData("Retry-After", "12", 13)]
    [InlineData("RateLimit", "\"api\";r=5;t=41", 1)]
    public void The_Hub_says_how_long_to_wait(string header, string value, int seconds)
    {
        Server.Add("org/name");
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models") { Status = 429, Headers = [(header, value)] });
        using var client = Client();
        Assert.True(client.Json(Info, Stop).IsThere);
        Assert.Equal([seconds], Clock.Waits.Select(w => (int)w.TotalSeconds));
    }

    [Fact]
    public void Codes_decide_what_an_answer_means()
    {
        var repository = Server.Add("org/name");
        Expect(MergeError.HubNotFound, "/api/models/org/none", "not on the Hub", "HF_TOKEN");
        Expect(MergeError.HubNotFound, "/api/models/org/name/revision/v9", "no revision 'v9'", "-Revision");
        Expect(MergeError.HubNotFound, "/org/name/resolve/main/x.json", "no file 'x.json'");
        repository.IsGated = true;
        using (var anonymous = Client(token: null))
        {
            Errors.Expect(MergeError.HubAccessDenied, () => anonymous.Json(Info, Stop), "gated", $"{Server.Endpoint}org/name",
                "hf auth login");
            Errors.Expect(MergeError.HubNotFound, () => anonymous.Json(Info with { Path = "/api/models/org/none" }, Stop),
                "without a token", "hf auth login");
        }

        using var stranger = Client(token: "hf_revoked");
        var error = Errors.Expect(MergeError.HubAccessDenied, () => stranger.Json(Info, Stop), "does not accept the token from HF_TOKEN");
        Assert.DoesNotContain("hf_revoked", $"{error} {error.Advice}", StringComparison.Ordinal);
        Assert.Empty(Clock.Waits);

        void Expect(MergeError id, string path, params string[] said)
        {
            using var client = Client();
            Errors.Expect(id, () => client.Json(
                Info with { Path = path, Repository = "org/name", Revision = "v9", File = "x.json" }, Stop), said);
        }
    }

    [Fact]
    public void A_refusal_for_want_of_storage_is_final_and_hides_the_token()
    {
        Server.Fail(new HubFault(FaultKind.Status, "GET", "/api/models")
        {
            Status = 403, Message = $"Private repository storage limit reached for {HubServer.WriteToken}",
        });
        using var client = Client();
        var error = Errors.Expect(MergeError.HubRefused, () => client.Json(Info, Stop), "storage", "(token)");
        Assert.DoesNotContain(HubServer.WriteToken, error.ToString(), StringComparison.Ordinal);
        Assert.Empty(Clock.Waits);
    }

    [Fact]
    public void The_token_goes_to_the_Hub_alone()
    {
        using var client = Client();
        Assert.True(client.IsHub(Server.Endpoint));
        Assert.True(client.IsHub(new Uri("https://huggingface.co/x")));
        Assert.False(client.IsHub(Server.Storage));
        Assert.False(client.IsHub(new Uri("http://huggingface.co/x")));

        // The storage refuses who shows one.
        var oid = Server.Objects.Put("content"u8.ToArray());
        var call = new HubCall(HttpMethod.Get, $"{Server.Storage}{Server.Objects.Sign("GET", $"/objects/{oid}")[1..]}", "Reading");
        Assert.Equal("content", client.Send(call, (answer, stop) => new StreamReader(answer.Content.ReadAsStream(stop)).ReadToEnd(), Stop));
    }

    [Fact]
    public void A_jobs_identity_is_exchanged_for_a_token()
    {
        var repository = Server.Add("org/name");
        repository.IsPrivate = true;
        var variables = Server.Environment(Temp["home"], token: null).Append(("HF_OIDC_RESOURCE", "org/name"))
            .Append(("HF_OIDC_ID_TOKEN", "standin.identity")).GroupBy(v => v.Item1).ToDictionary(g => g.Key, g => g.Last().Item2);
        using (var client = new HubClient(HubSettings.Read(variables.GetValueOrDefault), clock: Clock))
        {
            Assert.True(client.Json(Info, Stop).IsThere);
            Assert.True(client.Json(Info, Stop).IsThere);
        }

        Assert.Single(Server.Log, l => l.StartsWith("POST /oauth/token", StringComparison.Ordinal));
        variables.Remove("HF_OIDC_ID_TOKEN");
        using var without = new HubClient(HubSettings.Read(variables.GetValueOrDefault), clock: Clock);
        Errors.Expect(MergeError.HubAccessDenied, () => without.Json(Info, Stop), "HF_OIDC_RESOURCE", "id-token: write");
    }

    [Fact]
    public void Nothing_is_asked_offline_or_when_it_was_stopped()
    {
        using var offline = new HubClient(Server.Settings(Temp["home"]) with { Offline = true });
        Errors.Expect(MergeError.HubUnavailable, () => offline.Json(Info, Stop), "HF_HUB_OFFLINE");
        using var client = Client();
        Assert.ThrowsAny<OperationCanceledException>(() => client.Json(Info, new CancellationToken(canceled: true)));
        Assert.Empty(Server.Log);
    }

    [Fact]
    public void A_warning_of_the_Hub_is_shown_once()
    {
        Server.Add("org/name");
        Server.Warning = "storage; nearly full";
        using var client = Client();
        client.Json(Info, Stop);
        client.Json(Info, Stop);
        Assert.Equal(new HubNotice("The Hub says: storage; nearly full", IsWarning: true), Assert.Single(client.TakeNotices()));
    }
}
