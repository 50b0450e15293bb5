namespace UnslothMerge.Tests.Recipes;

/// <summary>Strengths become rules, and rules strengths.</summary>
public sealed class StrengthRuleTests : FileTests
{
    private static readonly double[] Strengths = [0, 0.3, 1, -2.5];

    [Fact]
    public void Rules_say_every_strength_exactly()
    {
        var plan = Plan(layers: 4);
        var changed = plan.Tensors.Where(t => t.IsChanged).Select(t => t.Ordinal).ToList();
        Assert.Equal(13, changed.Count);

        // By tensor, by layer, and by module: what people set.
        Gen.Select(Gen.Int[0, 2], Gen.Int[0, Strengths.Length - 1].Array[changed.Count]).Sample((kind, choices) =>
        {
            double Strength(LogicalTensor t) => Strengths[choices[kind switch
            {
                0 => changed.IndexOf(t.Ordinal),
                1 => TensorNames.Layer(t.Name) ?? 0,
                _ => TensorNames.Module(t.Name)[^1] % choices.Length,
            }]];
            var rules = StrengthRules.For(plan.Tensors, Strength);
            var given = StrengthRules.Apply(rules, plan);
            return changed.TrueForAll(o => given[o] == Strength(plan.Tensors[o]));
        });
    }

    [Fact]
    public void Rules_are_as_short_as_what_was_meant()
    {
        var plan = Plan(layers: 4);
        Assert.Empty(StrengthRules.For(plan.Tensors, _ => 1));
        Assert.Equal("0.5", Text(_ => 0.5));
        Assert.Equal("""[{"layers":"0-2","value":0.5}]""", Text(t => TensorNames.Layer(t.Name) < 3 ? 0.5 : 1));
        Assert.Equal("""[{"layers":"0, 2","modules":"mlp.up","value":0.5},{"value":3}]""",
            Text(t => t.Name.Contains("up", StringComparison.Ordinal) && TensorNames.Layer(t.Name) is 0 or 2 ? 0.5 : 3));
        Assert.Equal("""[{"modules":"attn.q","value":0}]""", Text(t => t.Name.Contains(".q.", StringComparison.Ordinal) ? 0 : 1));
        Assert.Equal("""[{"tensors":"head.weight","value":2}]""", Text(t => t.Name == "head.weight" ? 2 : 1));

        string Text(Func<LogicalTensor, double> strength) =>
            StrengthRules.ToJson(StrengthRules.For(plan.Tensors, strength))!.ToJsonString();
    }

    [Fact]
    public void Several_values_lie_on_lines_from_the_first_layer_to_the_last()
    {
        var plan = Plan(layers: 5);
        var given = StrengthRules.Apply([new StrengthRule([0, 1, 0.5])], plan);
        var byLayer = plan.Tensors.Where(t => t.Name.EndsWith("attn.q.weight", StringComparison.Ordinal)).Select(t => given[t.Ordinal]);
        Assert.Equal([0, 0.5, 1, 0.75, 0.5], byLayer);
        Assert.Equal(1, given[plan.Tensors.Single(t => t.Name == "head.weight").Ordinal]);
    }

    private MergePlan Plan(int layers)
    {
        var modules = Enumerable.Range(0, layers).SelectMany(l => new[] { "attn.q", "attn.v", "mlp.up" }.Select(m => $"layers.{l}.{m}"))
            .Append("head").ToArray();
        return new TinyModel([.. modules.Append("norm").Select(m => TinyTensor.F32(m + ".weight", [2, 2], 1, 2, 3, 4))])
            .WithLora(1, modules).Plan(Temp);
    }
}
