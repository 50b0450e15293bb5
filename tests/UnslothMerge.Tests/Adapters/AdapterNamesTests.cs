using UnslothMerge.Adapters;

namespace UnslothMerge.Tests.Adapters;

public sealed class AdapterNamesTests
{
    [Theory]
    [InlineData("base_model.model.m.experts.lora_A.weight", "m.experts", "lora_A.weight", 0)]
    [InlineData("base_model.model.m.experts.base_layer.lora_A.weight", "m.experts", "lora_A.weight", 1)]
    [InlineData("base_model.model.m.experts.base_layer.base_layer.lora_B.default.weight", "m.experts", "lora_B.weight", 2)]
    [InlineData("base_model.model.m.experts.base_layer.0.up_proj.lora_A.weight", "m.experts.0.up_proj", "lora_A.weight", 0)]
    [InlineData("base_model.model.m.experts.base_layer.base_layer.gate_up_proj", "m.experts", "gate_up_proj", 0)]
    [InlineData("base_model.model.lm_head.base_layer.weight", "lm_head", "weight", 0)]
    public void Wrappers_are_taken_off_and_counted(string name, string module, string part, int depth) =>
        Assert.Equal(new AdapterName(module, part, depth), AdapterNames.Parse(name, AdapterKinds.Parts));
}
