namespace UnslothMerge.Tests;

/// <summary>Every golden that a device has a part in, with libtorch on the processor.</summary>
[Collection("libtorch")]
public sealed class TorchGoldenTests
{
    public static TheoryData<string> Cases => [.. DeviceGolden.Cases];

    [Fact]
    public void Devices_have_a_part_in_what_they_are_for()
    {
        var names = Cases.Select(c => c.Data).ToHashSet();
        Assert.All(["lora-all-linear", "rslora", "dora-linear", "dora-rslora", "q-nf4", "q-nf4-single", "q-fp4", "weighted-two",
            "bf16-to-fp16", "moe-mixtral-fused"], name => Assert.Contains(name, names));
    }

    [Theory, MemberData(nameof(Cases))]
    public void Case(string name) => DeviceGolden.Check(name, new DeviceRequest(DeviceKind.TorchCpu));
}
