using UnslothMerge.Recipes;

namespace UnslothMerge.Tests.Recipes;

public sealed class RecipeFileTests : FileTests
{
    [Theory]
    [InlineData("a: 1", """{"a":1}""")]
    [InlineData("a: -0.5e1\nb: .5", """{"a":-5,"b":0.5}""")]
    [InlineData("a: '1'\nb: \"true\"", """{"a":"1","b":"true"}""")]
    [InlineData("a: yes\nb: true\nc: ~\nd:", """{"a":"yes","b":true,"c":null,"d":null}""")]
    [InlineData("a: [x, 0-7, {b: 2}]", """{"a":["x","0-7",{"b":2}]}""")]
    [InlineData("x: &x [1]\ny: *x", """{"x":[1],"y":[1]}""")]
    [InlineData("# nothing", "{}")]
    public void Yaml_says_what_json_says(string yaml, string json)
    {
        File.WriteAllText(Temp["r.yml"], yaml);
        Assert.Equal(json, RecipeFile.Read(Temp["r.yml"]).ToJsonString());
    }

    [Theory]
    [InlineData("a: 1\na: 2", "line 2")]
    [InlineData("a: [1", "line")]
    [InlineData("- a", "mapping")]
    [InlineData("a: &a [*a]", "line 1")]
    [InlineData("[1]: 2", "line 1")]
    public void What_is_no_recipe_is_refused(string yaml, string said)
    {
        File.WriteAllText(Temp["r.yml"], yaml);
        var error = Errors.Expect(MergeError.InvalidRecipe, () => RecipeFile.Read(Temp["r.yml"]));
        Assert.Contains(said, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_alias_that_multiplies_ends() =>
        Refused("x0: &x0 [1,1,1,1,1,1,1,1,1,1]\n" + string.Concat(Enumerable.Range(1, 9).Select(i =>
            $"x{i}: &x{i} [{string.Join(",", Enumerable.Repeat($"*x{i - 1}", 10))}]\n")), "no end");

    [Theory]
    [InlineData("adapters: [a]", "base is empty")]
    [InlineData("base: b\nadapter: a", "'adapter'")]
    [InlineData("base: b\nadapters: [{path: a, wieght: 2}]", "'adapters[0].wieght'")]
    [InlineData("base: b\nadapters: [{path: a, weight: two}]", "adapters[0].weight is \"two\"")]
    [InlineData("base: b\nadapters: [3]", "adapters[0] is 3")]
    [InlineData("base: b\nadapters: [a]\nmerges: [{adapters: [c]}]", "side by side")]
    [InlineData("base: b\nmerges: [{adapters: [a]}, {strength: 2}]", "no adapters")]
    [InlineData("base: b\nadapters: [a]\nstrength: [{layers: 7-3, value: 1}]", "layers is \"7-3\"")]
    [InlineData("base: b\nadapters: [a]\nstrength: [{layers: 3}]", "value is empty")]
    [InlineData("base: b\nadapters: [a]\nstrength: half", "strength is \"half\"")]
    [InlineData("base: b\nadapters: [a]\ncombination_type: slerp", "sum, ties, dare_linear, dare_ties, magnitude_prune")]
    [InlineData("base: b\nadapters: [a]\nkeep_tied: 1", "keep_tied is 1")]
    [InlineData("base: b\nadapters: [a]\nseed: 1.5", "a whole number")]
    [InlineData("base: b\nadapters: [a]\noutput: {method: lora}", "a mapping with a path")]
    public void A_slip_is_named(string yaml, string said) => Refused(yaml, said);

    [Fact]
    public void The_text_of_a_recipe_is_read_as_it_was_written()
    {
        string[] words = ["./base", "org/name", "true", "0-7", "12", "1e3", "", "~", "- x", "a: b", "#", "'", "\"", "ü", " x", "null"];
        Gen.Select(Gen.Int[0, words.Length - 1].Select(i => words[i]), Gen.Double, Gen.Bool).Array[0, 5].Sample(items =>
        {
            var json = new JsonObject
            {
                ["list"] = new JsonArray(
                    [.. items.Select(i => new JsonObject { ["a"] = i.Item1, ["b"] = Finite(i.Item2), ["c"] = i.Item3 })]),
            };
            foreach (var name in new[] { "r.yml", "r.json" })
            {
                File.WriteAllText(Temp[name], RecipeFile.Text(Temp[name], json));
                Assert.Equal(json.ToJsonString(), RecipeFile.Read(Temp[name]).ToJsonString());
            }
        }, iter: 200, threads: 1);

        static double Finite(double value) => double.IsFinite(value) ? value : 0;
    }

    private void Refused(string yaml, string said)
    {
        File.WriteAllText(Temp["r.yml"], yaml);
        var error = Errors.Expect(MergeError.InvalidRecipe, () => MergeRecipe.Read(Temp["r.yml"]));
        Assert.Contains(said, error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.Advice);
    }
}
