namespace UnslothMerge.Tests.Combining;

/// <summary>Whole merges of adapters with different ranks and targets, compared with the formula in double.</summary>
public sealed class CombinedMergeTests : FileTests
{
    private static readonly ModelDirectory Base = ModelDirectory.Open(Fixtures.Base("llama-fp32"));

    // Weights, also negative ones, as the case gives them.
    private static readonly List<AdapterStep> Steps =
        [.. new GoldenCase("weighted-three").Adapters.Select(a => new AdapterStep(AdapterDirectory.Open(a.Path), a.Weight))];

    [Theory, MemberData(nameof(CombinedTermTests.Types), MemberType = typeof(CombinedTermTests))]
    internal void IsTheFormulaOnEveryTensor(CombinationType type)
    {
        var plan = MergePlanner.Plan(Base, Steps, new PlanOptions { Combination = type, Density = 0.3, Seed = 5 });
        Save(plan, plan.Tensors, Temp["one"], workers: 1);
        Save(plan, plan.Tensors, Temp["many"], workers: 3);
        Assert.Equal(File.ReadAllBytes(Path.Combine(Temp["one"], "model.safetensors")),
            File.ReadAllBytes(Path.Combine(Temp["many"], "model.safetensors")));
        Assert.Contains($"- Combined by {type.Name()} (density 0.3", File.ReadAllText(Path.Combine(Temp["one"], "README.md")),
            StringComparison.Ordinal);
        Compare(Temp["one"], (tensor, deltas) => CombinationReference.Combine(type, 0.3, 5, tensor, deltas));
    }

    [Fact]
    public void StrengthMultipliesTheCombinedDelta()
    {
        var plan = MergePlanner.Plan(Base, Steps, new PlanOptions { Combination = CombinationType.Ties, Density = 0.5 });
        Save(plan, [.. plan.Tensors.Select(t => t.WithStrength(-0.25))], Temp["out"], workers: 2);
        Compare(Temp["out"],
            (tensor, deltas) => [.. CombinationReference.Combine(CombinationType.Ties, 0.5, 0, tensor, deltas).Select(v => -0.25 * v)]);
    }

    [Fact]
    public void ExtendingAMergeCombinesOnlyTheNewAdapters()
    {
        var options = new PlanOptions { Combination = CombinationType.Ties, Density = 0.5 };
        var first = MergePlanner.Plan(Base, Steps[..1], options);
        var second = MergePlanner.Extend(first, new Dictionary<int, double>(), Steps[1..], options);
        Save(second, second.Tensors, Temp["out"], workers: 2);
        Compare(Temp["out"], (tensor, deltas) =>
        {
            var before = CombinationReference.Combine(CombinationType.Ties, 0.5, 0, tensor, [.. deltas.Take(1)]);
            var after = CombinationReference.Combine(CombinationType.Ties, 0.5, 0, tensor, [.. deltas.Skip(1)]);
            return [.. before.Zip(after, (a, b) => a + b)];
        });
    }

    [Fact]
    public void AThinnedAdapterIsNotSavedAsItWas()
    {
        var plan = MergePlanner.Plan(Base, [new AdapterStep(Steps[0].Adapter, 1)],
            new PlanOptions { Combination = CombinationType.DareLinear, Density = 0.5, Seed = 8 });
        Errors.Expect(() => TinyModel.SaveAdapter(plan, Temp["out"]),
            "dare_linear (density 0.5, seed 8)");
        Assert.Empty(Directory.EnumerateFileSystemEntries(Temp.Path));
    }

    [Theory]
    [InlineData(CombinationType.Sum, 0.5)]
    [InlineData(CombinationType.Ties, null)]
    [InlineData(CombinationType.Ties, 0.0)]
    [InlineData(CombinationType.DareLinear, 1.5)]
    [InlineData(CombinationType.DareTies, double.NaN)]
    internal void RefusesDensitiesThatMeanNothing(CombinationType type, double? density)
    {
        var error = Assert.Throws<MergeException>(() =>
            MergePlanner.Plan(Base, Steps, new PlanOptions { Combination = type, Density = density }));
        Assert.Equal((MergeError.InvalidOption, "Density"), (error.Error, error.Target));
    }

    [Fact]
    public void TypesHaveTheNamesOfPeft() =>
        Assert.Equal(
            ["sum", "ties", "dare_linear", "dare_ties", "magnitude_prune"], Enum.GetValues<CombinationType>().Select(t => t.Name()));

    private static void Save(MergePlan plan, IEnumerable<LogicalTensor> tensors, string output, int workers) =>
        TinyModel.Save(TinyModel.WritePlan(plan, TensorType.F32, tensors: tensors), output, workers);

    private static void Compare(string output, Func<string, IReadOnlyList<(double Weight, double[] Values)>, double[]> combine)
    {
        using var files = new InputFiles();
        var actual = Checkpoint.Open(output);
        var compared = 0;
        foreach (var tensor in Base.Checkpoint.Tensors)
        {
            var expected = Values(files, tensor);
            var module = $"base_model.model.{tensor.Name[..^".weight".Length]}";

            // An adapter that does not touch the tensor has a delta of zeros, which changes no combination.
            var deltas = Steps.Select(s => (s.Weight, Delta(files, s.Adapter, module, expected.Length))).ToList();
            if (deltas.Exists(d => d.Item2.Any(v => v != 0)))
            {
                compared++;
                expected = [.. expected.Zip(combine(tensor.Name, deltas), (w, d) => w + d)];
            }

            var merged = Values(files, actual.Find(tensor.Name)!);
            var slack = 2e-6 * expected.Max(Math.Abs);
            Assert.All(expected.Zip(merged), pair => Assert.InRange(pair.Second, pair.First - slack, pair.First + slack));
        }

        Assert.True(compared >= 4);
    }

    private static double[] Delta(InputFiles files, AdapterDirectory adapter, string module, int count)
    {
        if (adapter.Weights.Tensors.FirstOrDefault(t => t.Name == $"{module}.lora_A.weight") is not { } a)
        {
            return new double[count];
        }

        var b = adapter.Weights.Tensors.Single(t => t.Name == $"{module}.lora_B.weight");
        var (right, left) = (Values(files, a), Values(files, b));
        var (rank, columns) = ((int)a.Shape[0], (int)a.Shape[1]);
        var json = adapter.Config.Json;
        var scaling = json["lora_alpha"]!.GetValue<double>() / (json["use_rslora"]!.GetValue<bool>() ? Math.Sqrt(rank) : rank);
        return [.. Enumerable.Range(0, count)
            .Select(i =>
                scaling * Enumerable.Range(0, rank).Sum(k => left[(i / columns * rank) + k] * right[(k * columns) + (i % columns)]))];
    }

    private static double[] Values(InputFiles files, StoredTensor tensor) => PassRule.Decode(tensor.Type, files.ReadAll(tensor));
}
