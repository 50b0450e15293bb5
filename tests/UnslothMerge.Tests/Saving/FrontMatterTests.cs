using YamlDotNet.Core;

namespace UnslothMerge.Tests.Saving;

public sealed class FrontMatterTests
{
    private const string Yaml = """
        # who wrote this
        license: other   # see below
        language:
          - en   # first
          - de
        # about tags
        tags: [a, "b"]
        widget:
        - text: |
            # no comment
            hello: world

        datasets:
        - x/y

        # the end
        """;

    [Theory]
    [InlineData("license", "other")]
    [InlineData("language", "en", "de")]
    [InlineData("tags", "a", "b")]
    [InlineData("nothing")]
    public void Values_are_read(string key, params string[] values) => Assert.Equal(values, new FrontMatter(Yaml).Values(key));

    [Fact]
    public void What_is_there_already_is_left_as_it_is_written()
    {
        var yaml = new FrontMatter(Yaml);
        yaml.Set("license", "other");
        yaml.Set("tags", "a", "b");
        yaml.Set("language", []);
        yaml.Add("language", ["de", "en"]);
        Assert.Equal(Yaml + "\n", yaml.Text);
    }

    [Theory]
    [InlineData("license: other   # see below\n", "license: mit\n", "license", "mit")]
    [InlineData("language:\n  - en   # first\n  - de\n", "language: fr\n", "language", "fr")]
    [InlineData("tags: [a, \"b\"]\n", "tags:\n- c\n- \"on\"\n", "tags", "c", "on")]
    [InlineData("# the end\n", "# the end\nnew: 1st\n", "new", "1st")]
    public void A_key_is_replaced_in_its_place_or_added_at_the_end(string from, string to, string key, params string[] values)
    {
        var yaml = new FrontMatter(Yaml);
        yaml.Set(key, values);
        Assert.Equal((Yaml + "\n").Replace(from, to.Replace("1st", "\"1st\"", StringComparison.Ordinal), StringComparison.Ordinal),
            yaml.Text);
        Assert.Equal(values, yaml.Values(key));
    }

    [Theory]
    [InlineData("  - de\n", "  - de\n  - fr\n", "language", "de", "fr")]
    [InlineData("[a, \"b\"]", "[a, \"b\", c, \"d: e\"]", "tags", "c", "d: e")]
    [InlineData("- x/y\n", "- x/y\n- z\n", "datasets", "z")]
    [InlineData("license: other   # see below\n", "license:\n- other\n- mit\n", "license", "mit")]
    public void Values_are_added_in_the_lists_own_style(string from, string to, string key, params string[] values)
    {
        var yaml = new FrontMatter(Yaml);
        yaml.Add(key, values);
        Assert.Equal((Yaml + "\n").Replace(from, to, StringComparison.Ordinal), yaml.Text);
    }

    [Fact]
    public void Any_text_can_be_a_value() => Gen.String.Array[1, 4].Sample(values =>
    {
        var yaml = new FrontMatter();
        yaml.Set("key", values);
        Assert.Equal(values is [""] ? [] : values, yaml.Values("key"));
    });

    [Fact]
    public void A_key_is_taken_over_as_it_is_written_or_goes_if_there_is_none()
    {
        var yaml = new FrontMatter("license_name: x\nlanguage: fr\nb: 1");
        foreach (var key in new[] { "language", "license_name", "license" })
        {
            yaml.Take(new FrontMatter(Yaml), key);
        }

        Assert.Equal("language:\n  - en   # first\n  - de\nb: 1\nlicense: other   # see below\n", yaml.Text);
    }

    [Theory]
    [InlineData("a: b: c")]
    [InlineData("a: 1\na: 2")]
    [InlineData("- a")]
    [InlineData("{a: 1}")]
    [InlineData("text")]
    [InlineData("a: [")]
    [InlineData("a: 1\n<<: *x<<: *x")]
    public void What_is_no_mapping_is_refused(string yaml) => Assert.ThrowsAny<YamlException>(() => new FrontMatter(yaml));
}
