namespace UnslothMerge.Tests.PowerShell;

public sealed class InstructionSetTests
{
    // Each set switched off takes those that build on it along. All off leaves scalar code.
    private static readonly (string[] Off, string Width)[] Machines =
    [
        ([], ""),
        (["EnableAVX512", "EnableAVX512F"], nameof(Vector512)),
        (["EnableAVX2", "EnableAVX512", "EnableAVX512F"], nameof(Vector256)),
        (["EnableHWIntrinsic"], nameof(Vector128)),
    ];

    [Fact]
    public void Every_machine_writes_the_same_bytes()
    {
        using var directory = new TemporaryDirectory();
        TinyModel.Base(directory["base"], TinyTensor.Random("m.weight", [300, 517], 1), TinyTensor.Random("n.weight", [64, 33], 2));
        TinyModel.Lora(
            directory["adapter"],
            5,
            TinyTensor.Random("base_model.model.m.lora_A.weight", [5, 517], 3),
            TinyTensor.Random("base_model.model.m.lora_B.weight", [300, 5], 4));
        var merges = new[]
        {
            (directory["base"], directory["adapter"], "BF16"),
            (directory["base"], directory["adapter"], "F16"),
            (directory["base"], directory["adapter"], "F32"),
            (Fixtures.Base("llama-bf16"), Fixtures.Adapter("lora-all-linear"), "auto"),
            (Fixtures.Base("q-nf4"), Fixtures.Adapter("q-nf4"), "auto"),
        };

        var prints = new List<string>();
        foreach (var (off, width) in Machines)
        {
            var run = directory[$"run{prints.Count}"];
            var commands = merges.Select((m, i) =>
                $"$null = Merge-LoraModel '{m.Item1}' '{m.Item2}' | "
                + $"Save-MergedModel '{run}/{i}/out' -DType {m.Item3} -NoSync -ThrottleLimit 2");
            var vector = width.Length > 0 ? width : nameof(Vector128);
            var accelerated = PowerShellProcess.RunWithModule(
                $"{string.Join("; ", commands)}; [System.Runtime.Intrinsics.{vector}]::IsHardwareAccelerated",
                [.. off.Select(o => ($"DOTNET_{o}", "0"))]);
            Assert.Equal(width.Length > 0 ? "False" : Vector128.IsHardwareAccelerated.ToString(), Assert.Single(accelerated));
            prints.Add(TinyModel.Fingerprint(run));
        }

        Assert.Contains("0/out/model.safetensors ", prints[0], StringComparison.Ordinal);
        Assert.All(prints, p => Assert.Equal(prints[0], p));
    }
}
