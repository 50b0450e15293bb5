namespace UnslothMerge.Tests.Planning;

public sealed class SavedCopyTests : FileTests
{
    [Theory]
    [InlineData("llama-bf16", TensorType.BF16)]
    [InlineData("llama-bf16", TensorType.F32)]
    [InlineData("llama-bf16", TensorType.F16)]
    [InlineData("llama-fp32", TensorType.F32)]
    [InlineData("llama-fp32", TensorType.F16)]
    internal void ACopyHasTheBasesValuesInItsOwnDtype(string name, TensorType type)
    {
        using var files = new InputFiles();
        var head = Checkpoint.Open(Fixtures.Base(name)).Find("lm_head.weight")!;
        var values = PassRule.Decode(head.Type, files.ReadAll(head));
        byte[] bytes = type switch
        {
            TensorType.F32 => [.. MemoryMarshal.AsBytes<float>(Array.ConvertAll(values, v => (float)v))],
            TensorType.F16 => [.. MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, v => (Half)v))],
            _ => files.ReadAll(head),
        };
        Assert.True(SameValues.IsCopy(new PlainSource(head), Saved(Temp["copy"], type, head.Shape, bytes)));

        // The last element is one step off.
        bytes[^(type.Bits() / 8)] ^= 1;
        Assert.False(SameValues.IsCopy(new PlainSource(head), Saved(Temp["trained"], type, head.Shape, bytes)));
        Assert.False(SameValues.IsCopy(new PlainSource(head), Saved(Temp["flat"], type, [head.Shape.Count()], bytes)));
    }

    private static StoredTensor Saved(string path, TensorType type, IEnumerable<long> shape, byte[] bytes)
    {
        TinyModel.WriteFile(path, new TinyTensor("w", type, [.. shape], bytes));
        return SafetensorsFile.Open(path).Tensors.Single();
    }
}
