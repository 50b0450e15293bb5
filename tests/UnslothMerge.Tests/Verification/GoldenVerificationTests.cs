using UnslothMerge.Tests.Formats;

namespace UnslothMerge.Tests.Verification;

/// <summary>Every golden that is merged passes every check.</summary>
public sealed class GoldenVerificationTests
{
    public static TheoryData<string> Cases => [.. GoldenCase.All.Where(n => new GoldenCase(n).Outcome is "merged" or "quantized")];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case(string name)
    {
        using var directory = new TemporaryDirectory();
        var plan = GoldenMerge.Save(new GoldenCase(name), directory["out"]);
        Verify(plan, directory["out"]);
    }

    /// <summary>So do models that are written in the format of their base, and in FP8.</summary>
    [Theory]
    [MemberData(nameof(BaseFormatTests.Cases), MemberType = typeof(BaseFormatTests))]
    public void Quantized(string name)
    {
        var @case = new GoldenCase(name);
        string[] adapters = [.. @case.Adapters.Select(a => a.Path)];
        using var directory = new TemporaryDirectory();
        var requests = new List<(OutputRequest Request, string Output)> { (new BaseFormatRequest(), "same") };
        if (!name.StartsWith("q-mxfp4", StringComparison.Ordinal))
        {
            // gpt-oss keeps in 16 bits all that could be FP8, so that it is refused.
            requests.AddRange([(new Fp8Request(Fp8Strategy.Block), "block"), (new Fp8Request(Fp8Strategy.Channel), "channel")]);
        }

        foreach (var (request, output) in requests)
        {
            QuantizedModel.Save(@case.Base, directory[output], request, computed: true, adapters);
            Verify(TinyModel.Plan(@case.Base, adapters), directory[output]);
        }
    }

    private static void Verify(MergePlan plan, string output)
    {
        var results = ModelVerifier.Verify(plan, plan.Tensors, output, new VerificationOptions(Full: true, Workers: 2), null,
            TestContext.Current.CancellationToken);
        Assert.All(results, r => Assert.True(r.Passed, $"{r.Check}: {r.Detail}"));
    }
}
