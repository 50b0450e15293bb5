namespace UnslothMerge.Tests.PowerShell;

public sealed class WhatIfTests : FileTests
{
    [Fact]
    public void Every_file_is_told_and_none_is_written()
    {
        var merge = $"Merge-LoraModel '{Fixtures.Base("llama-bf16")}' '{Fixtures.Adapter("lora-all-linear")}'";
        var lines = PowerShellProcess.RunWithModule($"""
            {merge} | Save-MergedModel '{Temp["out"]}' -MaxShardSize 5kB -WhatIf
            {merge} | Save-MergedModel '{Temp["lora"]}' -Method lora -WhatIf
            """);
        Assert.Empty(Directory.EnumerateFileSystemEntries(Temp.Path));

        Assert.Contains(lines, l => Regex.IsMatch(l, """^What if:.*Write merged_16bit: 4 shards, 21 tensors \(14 changed\), 17\.8 kB"""));
        Assert.Contains(lines, l => Regex.IsMatch(l, """^model-00002-of-00004\.safetensors .*5\.74 kB  7 tensors, 6 changed$"""));
        string[] files =
        [
            "model.safetensors.index.json", "config.json", "generation_config.json", "README.md",
            "adapter_model.safetensors", "adapter_config.json",
        ];
        Assert.All(files, file => Assert.Contains(lines, l => l.StartsWith(file + ' ', StringComparison.Ordinal)));
    }

    [Fact]
    public void A_model_that_would_be_replaced_is_told()
    {
        var save = $"Merge-LoraModel '{Fixtures.Base("llama-bf16")}' | Save-MergedModel '{Temp["out"]}'";
        var lines = PowerShellProcess.RunWithModule($"$null = {save}; {save} -Force -WhatIf");
        Assert.Contains(lines, l => l.EndsWith("is replaced.", StringComparison.Ordinal));
    }
}
