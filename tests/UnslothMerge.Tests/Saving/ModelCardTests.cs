namespace UnslothMerge.Tests.Saving;

public sealed class ModelCardTests : FileTests
{
    private const string Section = "<!-- merge: begin";

    private readonly List<MergeWarning> _warnings = [];

    public ModelCardTests()
    {
        Base("base");
        Adapter("adapter", "org/tiny");
    }

    [Fact]
    public void A_new_card_takes_over_what_holds_for_the_merged_model_too()
    {
        Card("base",
            "license: other # mine\nlicense_name: tiny\nlicense_link: LICENSE\nlanguage: [en, de]\npipeline_tag: " +
            "text-generation\nbase_model: org/grand\ndatasets: [org/web]\ntags: [meta]", "# Base\n");
        Card("adapter", "license: mit\nlanguage: fr\nlibrary_name: peft\npipeline_tag: x\ndatasets:\n- org/chats\n"
            + "tags: ['base_model:adapter:org/tiny', lora, peft, sft, trl]",
            "# Adapter\n");
        var card = Merged(new ExtrasOptions { Tags = ["demo", "lora"], Datasets = ["org/more"] });
        Assert.StartsWith(
            """
            ---
            base_model: org/tiny
            base_model_relation: finetune
            license: other # mine
            license_name: tiny
            license_link: LICENSE
            pipeline_tag: text-generation
            language: fr
            library_name: transformers
            datasets:
            - org/chats
            - org/more
            tags:
            - merged
            - lora
            - sft
            - trl
            - demo
            ---

            # out


            """,
            card,
            StringComparison.Ordinal);
        Assert.Contains("- Adapter: adapter (LORA, rank 1), weight 1\n", card, StringComparison.Ordinal);
        Assert.Contains("1 of 1 tensors changed", card, StringComparison.Ordinal);
        Assert.Empty(_warnings);
    }

    [Fact]
    public void A_card_that_is_there_keeps_its_authors_words_however_often_it_is_saved()
    {
        Card("base", "license: llama3\nlanguage: en", "");
        Card("out", "# mine\nlicense: mit\ntags: [a]\nbase_model: org/tiny", "\n# My model\r\n\r\nText.");
        var first = Merged();
        Assert.StartsWith(
            "---\n# mine\nlicense: mit\ntags: [a, merged, lora]\nbase_model: org/tiny\nbase_model_relation: finetune\nlanguage: " +
            "en\nlibrary_name: transformers\n---\n\n# My model\r\n\r\nText.\n\n" + Section, first, StringComparison.Ordinal);
        File.WriteAllText(Temp["out/README.md"], first + "\nBelow.\n");
        Assert.Equal(first + "\nBelow.\n", Merged());
        Assert.Equal((first + "\nBelow.\n").Replace("weight 1", "weight 0.5", StringComparison.Ordinal), Merged(weight: 0.5));
    }

    [Fact]
    public void A_card_of_another_base_gets_the_facts_of_this_one()
    {
        Card("base", "license: llama3", "");
        Card("out", "license: other\nlicense_name: x\nbase_model: org/another\nbase_model_relation: quantized\nlanguage: de", "# Mine\n");
        Assert.StartsWith("---\nlicense: llama3\nbase_model: org/tiny\nbase_model_relation: finetune\nlanguage: de\n", Merged(),
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("models--org--tiny/snapshots/0123", "org/tiny-bnb-4bit", "base_model: org/tiny\n")]
    [InlineData("models--org--tiny/snapshots/0123", "/home/me/tiny", "base_model: org/tiny\n")]
    [InlineData("plain", "org/trained", "base_model: org/trained\n")]
    [InlineData("plain", "org/trained-unsloth-bnb-4bit", "base_model: org/named\n")]
    [InlineData("plain", "/home/me/tiny", "base_model: org/named\n")]
    [InlineData("tiny-1B", "org/Tiny-1B-unsloth-bnb-4bit", "base_model: org/named\n")]
    public void The_base_is_called_by_its_true_name(string directory, string trained, string line)
    {
        Base(directory, "org/named");
        Adapter("adapter", trained);
        Assert.Contains(line, Merged(@base: directory), StringComparison.Ordinal);
    }

    [Fact]
    public void Adapters_with_a_name_on_the_hub_are_bases_too()
    {
        Adapter("models--me--style/snapshots/9", "org/tiny");
        var card = Merged(adapter: "models--me--style/snapshots/9");
        Assert.Contains("base_model:\n- org/tiny\n- me/style\nbase_model_relation: merge\n", card, StringComparison.Ordinal);
        Assert.Contains("- Adapter: me/style (LORA", card, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Tiny-1B", "org/Tiny-1B-unsloth-bnb-4bit", "base_model: org/Tiny-1B\n")]
    [InlineData("plain", "org/Tiny-1B-bnb-4bit", null)]
    public void A_quantized_twin_is_never_called_the_base(string directory, string trained, string? line)
    {
        Base(directory, "/home/me/x");
        Adapter("adapter", trained);
        var card = Merged(@base: directory);
        Assert.Contains(line ?? "---", card, StringComparison.Ordinal);
        Assert.DoesNotContain($"base_model: {trained}", card, StringComparison.Ordinal);
        Assert.Contains($"trained on {trained}", card, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_name_on_the_hub_no_base_is_stated()
    {
        Adapter("adapter", "/home/me/tiny");
        Assert.DoesNotContain("base_model", Merged(), StringComparison.Ordinal);
        Assert.Contains("- Base: base (", Merged(), StringComparison.Ordinal);
    }

    [Fact]
    public void Strengths_are_told()
    {
        var plan = Plan("base", "adapter", 0.5);
        var write = WritePlan.Create(plan, [plan.Tensors[0].WithStrength(0.25)], new WriteOptions(null, 1000));
        Assert.Contains("- Strength 0.25 on 1 tensor: `m.weight`\n",
            ModelCard.Merged(write, Temp["out"], "merged_16bit", new ExtrasOptions(), _warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_card_that_cannot_be_read_is_an_error_where_it_would_be_lost_and_a_warning_elsewhere()
    {
        Card("base", "license: [", "");
        _ = Merged();
        Assert.Contains("base/README.md", Assert.Single(_warnings).Text, StringComparison.Ordinal);
        Card("out", "a: b: c", "");
        Errors.Expect(() => Merged(), "out/README.md");
    }

    [Fact]
    public void An_adapters_own_card_stays()
    {
        Card("base", "license: llama3", "");
        Card("adapter", "base_model: /home/me/tiny\nlibrary_name: peft\ntags:\n- trl", "# Mine\n");
        var card = ModelCard.Adapter(Plan("base", "adapter"), Temp["out"], new ExtrasOptions { Tags = ["demo"] }, _warnings);
        Assert.Equal(
            "---\nbase_model: org/tiny\nlibrary_name: peft\ntags:\n- trl\n- lora\n- demo\nbase_model_relation: adapter\nlicense: " +
            "llama3\n---\n# Mine\n", card);
    }

    [Fact]
    public void An_adapter_without_a_card_gets_one()
    {
        var card = ModelCard.Adapter(Plan("base", "adapter"), Temp["out"], new ExtrasOptions(), _warnings);
        Assert.Equal(
            "---\nbase_model: org/tiny\nbase_model_relation: adapter\nlibrary_name: peft\ntags:\n- lora\n---\n\n# out\n\nA LORA adapter " +
            "for org/tiny.\n", card);
    }

    private string Merged(ExtrasOptions? options = null, string @base = "base", string adapter = "adapter", double weight = 1) =>
        ModelCard.Merged(TinyModel.WritePlan(Plan(@base, adapter, weight)), Temp["out"], "merged_16bit",
            options ?? new ExtrasOptions(), _warnings);

    private MergePlan Plan(string @base, string adapter, double weight = 1) =>
        MergePlanner.Plan(ModelDirectory.Open(Temp[@base]), [new AdapterStep(AdapterDirectory.Open(Temp[adapter]), weight)]);

    private void Base(string name, string? hubName = null) => TinyModel.Base(Temp[name],
        new JsonObject { ["model_type"] = "tiny", ["_name_or_path"] = hubName }.ToJsonString(),
        TinyTensor.F32("m.weight", [2, 2], 1, 2, 3, 4));

    private void Adapter(string name, string @base) => TinyModel.Adapter(Temp[name],
        $$"""{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "base_model_name_or_path": "{{@base}}"}""",
        TinyTensor.Lora("base_model.model.m", new([1, 2], [1, 1]), new([2, 1], [1, 1])));

    private void Card(string directory, string yaml, string body)
    {
        Directory.CreateDirectory(Temp[directory]);
        File.WriteAllText(Temp[directory + "/README.md"], $"---\n{yaml}\n---\n{body}");
    }
}
