using UnslothMerge.Hub.Fetching;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Tests.Hub.Fetching;

namespace UnslothMerge.Tests.Hub;

/// <summary>Answers of the Hub in which one value is of another kind than it should be: the work is done nevertheless, or an error says
/// what came.</summary>
public sealed class OddAnswerTests : FetchTests
{
    private const string Id = "org/out";

    // The last two are values that the right kind does not exclude; null in this list removes the value.
    private static readonly string?[] Odd =
        ["[]", "[1]", "1", "\"x\"", "null", "{}", "true", "1e300", "-1", "\"\\ud800\"", "\"/\\u0000\\n\u00e9\"", null];

    [Fact]
    public void Publishing_to_a_new_repository() => Each(create: true, () => Publish(new PublishTarget(Id)));

    [Fact]
    public void Publishing_a_pull_request_with_files_of_the_base() =>
        Each(create: false, () => Publish(new PublishTarget(Id) { CreatePullRequest = true }, Base));

    [Fact]
    public void Publishing_to_a_new_branch_in_parts()
    {
        Server.Objects.PartSize = 3000;
        Each(create: false, () => Publish(new PublishTarget(Id) { Revision = "dev" }));
    }

    [Fact]
    public void Downloading() => Each(create: false, () =>
    {
        using var client = Client();
        var model = Find(client, Base);
        Downloader.Run(client, model.Cache, model.Commit, model.All!, null, Stop);
        Assert.All(model.All!, f => Assert.Equal(Server.Read(Base, f.Path), File.ReadAllBytes(Path.Combine(Snapshot(Base), f.Path))));
    });

    [Fact]
    public void Exchanging_the_identity_of_a_job() => Each(create: false, () =>
    {
        var variables = Server.Environment(Temp["home"], token: null).Where(v => v.Value.Length > 0)
            .Append(("HF_OIDC_RESOURCE", Id)).Append(("HF_OIDC_ID_TOKEN", "standin.identity")).ToDictionary(v => v.Item1, v => v.Item2);
        using var client = new HubClient(HubSettings.Read(variables.GetValueOrDefault), clock: Clock);
        Find(client, Base);
    });

    private void Each(bool create, Action work)
    {
        var (answers, places) = (0, new List<(int Answer, int Place)>());
        Run((json, answer) =>
        {
            places.AddRange(Enumerable.Range(0, Places(json).Count() + 1).Select(p => (answer, p)));
            return json.ToJsonString();
        });
        var failures = new List<string>();
        foreach (var (answer, place) in places)
        {
            foreach (var odd in Odd.Where((_, i) => place == 0 || (place + i) % 2 == 0))
            {
                var sent = "";
                try
                {
                    Run((json, at) => at != answer ? json.ToJsonString() : sent = Spoiled(json, place, odd));
                }
                catch (MergeException e) when (!e.Message.Contains("fault in", StringComparison.Ordinal))
                {
                    // What a user can act on.
                }
#pragma warning disable CA1031 // what else is thrown is what is looked for
                catch (Exception e)
#pragma warning restore CA1031
                {
                    failures.Add($"{Server.Log[^1]}, {sent}: {e}");
                }
            }
        }

        Assert.True(places.Count > 3, $"There were {places.Count} values.");
        Assert.True(failures.Count == 0, $"{failures.Count} failures:\n{string.Join("\n\n", failures.Take(20))}");

        void Run(Func<JsonNode, int, string> text)
        {
            Prepare(create);
            answers = 0;
            Server.Hold = request =>
            {
                var answer = Interlocked.Increment(ref answers);
                request.Text = json => text(json, answer);
                return Task.CompletedTask;
            };
            work();
        }
    }

    private void Prepare(bool create)
    {
        Server.ForgetLog();
        Server.Repositories.Clear();
        Server.Objects.Objects.Clear();
        Server.Objects.Uploads.Clear();
        Server.Add(Base, ("model.safetensors", File.ReadAllBytes(Path.Combine(Model, "model.safetensors"))), ("a/config.json", [1]));
        if (!create)
        {
            Server.Add(Id, ("pytorch_model.bin", [1]));
        }

        Server.Objects.Uploads.Clear();
        if (Directory.Exists(Temp["home"]))
        {
            Directory.Delete(Temp["home"], recursive: true);
        }
    }

    private string Model => Directory.Exists(Temp["model"]) ? Temp["model"]
        : TinyModel.Base(Temp["model"], TinyTensor.Random("w", [40, 33], 1));

    // What is done without an error is done.
    private void Publish(PublishTarget target, string? source = null)
    {
        using var client = Client();
        var (files, publisher) = (PublishedFiles.Open(Model, null, [], []), new Publisher(client, target));
        var plan = publisher.Plan([.. files.Select(f => f.Name)], [.. files], source, Stop);
        var result = publisher.Run(plan, files, "Upload", null, Stop);
        Assert.All(result.Files.Where(f => f.Outcome == FileOutcome.Sent),
            f => Assert.Equal(File.ReadAllBytes(Path.Combine(Model, f.Name)), Server.Read(Id, f.Name, result.Commit)));
    }

    // The text of an answer with another value at a place: 0 is all of it.
    private static string Spoiled(JsonNode json, int place, string? odd)
    {
        if (place == 0)
        {
            return odd ?? "";
        }

        const string mark = "<odd>";
        var copy = json.DeepClone();
        var (parent, key) = Places(copy).ElementAt(place - 1);
        if (odd is null && parent is JsonObject from)
        {
            from.Remove((string)key);
        }
        else if (parent is JsonObject o)
        {
            o[(string)key] = mark;
        }
        else
        {
            parent[(int)key] = mark;
        }

        return copy.ToJsonString().Replace($"\"\\u003Codd\\u003E\"", odd ?? "", StringComparison.Ordinal);
    }

    // Of a list the first values say as much as all.
    private static IEnumerable<(JsonNode Parent, object Key)> Places(JsonNode? node) => node switch
    {
        JsonObject o => o.SelectMany(p => Places(p.Value).Prepend((o, p.Key))),
        JsonArray a => a.Take(2).SelectMany((v, i) => Places(v).Prepend((a, i))),
        _ => [],
    };
}
