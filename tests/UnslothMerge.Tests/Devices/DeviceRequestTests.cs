namespace UnslothMerge.Tests.Devices;

public sealed class DeviceRequestTests
{
    [Theory]
    [InlineData("auto", DeviceKind.Auto, 0)]
    [InlineData("CPU", DeviceKind.Cpu, 0)]
    [InlineData("cuda", DeviceKind.Cuda, 0)]
    [InlineData("cuda:3", DeviceKind.Cuda, 3)]
    [InlineData("torch-cpu", DeviceKind.TorchCpu, 0)]
    internal void A_device_is_named_as_in_torch(string text, DeviceKind kind, int index) =>
        Assert.Equal(new DeviceRequest(kind, index), DeviceRequest.Parse(text));

    [Theory]
    [InlineData("gpu")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:x")]
    [InlineData("cuda1")]
    [InlineData("")]
    public void Other_names_are_refused(string text)
    {
        var error = Assert.Throws<MergeException>(() => DeviceRequest.Parse(text));
        Assert.Equal((MergeError.InvalidOption, "Device"), (error.Error, error.Target));
        Assert.Contains("cuda:1", error.Advice, StringComparison.Ordinal);
    }
}
