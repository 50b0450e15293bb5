namespace UnslothMerge.Tests.Verification;

/// <summary>Every golden that is merged passes every check.</summary>
public sealed class GoldenVerificationTests : FileTests
{
    public static TheoryData<string> Cases => [.. GoldenCase.All.Where(n => new GoldenCase(n).Outcome is "merged" or "quantized")];

    [Theory, MemberData(nameof(Cases))]
    public void Case(string name)
    {
        var plan = GoldenMerge.Save(new GoldenCase(name), Temp["out"]);
        Verify(plan, Temp["out"]);
    }

    /// <summary>So do models that are written in the format of their base, and in FP8.</summary>
    [Theory, MemberData(nameof(BaseFormatTests.Cases), MemberType = typeof(BaseFormatTests))]
    public void Quantized(string name)
    {
        var @case = new GoldenCase(name);
        string[] adapters = [.. @case.Adapters.Select(a => a.Path)];
        var plan = TinyModel.Plan(@case.Base, adapters);

        // gpt-oss keeps in 16 bits all that could be FP8, so that it is refused.
        OutputRequest[] requests = name.StartsWith("q-mxfp4", StringComparison.Ordinal) ? [new BaseFormatRequest()]
            : [new BaseFormatRequest(), new Fp8Request(Fp8Strategy.Block), new Fp8Request(Fp8Strategy.Channel)];
        Assert.All(requests.Index(), r =>
        {
            TinyModel.Requantize(plan, Temp[$"{r.Index}"], r.Item, computed: true);
            Verify(plan, Temp[$"{r.Index}"]);
        });
    }

    private static void Verify(MergePlan plan, string output)
    {
        var results = ModelVerifier.Verify(plan, plan.Tensors, output, new VerificationOptions(Full: true, Workers: 2), null,
            TestContext.Current.CancellationToken);
        Assert.All(results, r => Assert.True(r.Passed, $"{r.Check}: {r.Detail}"));
    }
}
