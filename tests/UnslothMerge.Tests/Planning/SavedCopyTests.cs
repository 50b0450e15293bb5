namespace UnslothMerge.Tests.Planning;

public sealed class SavedCopyTests
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
        using var directory = new TemporaryDirectory();
        var head = Checkpoint.Open(Fixtures.Base(name)).Find("lm_head.weight")!;
        var values = PassRule.Decode(head.Type, files.ReadAll(head));
        byte[] bytes = type switch
        {
            TensorType.F32 => [.. MemoryMarshal.AsBytes<float>(Array.ConvertAll(values, v => (float)v))],
            TensorType.F16 => [.. MemoryMarshal.AsBytes<Half>(Array.ConvertAll(values, v => (Half)v))],
            _ => files.ReadAll(head),
        };
        Assert.True(SameValues.IsCopy(new PlainSource(head), Saved(directory["copy"], type, head.Shape, bytes)));

        // The last element is one step off.
        bytes[^(type.Bits() / 8)] ^= 1;
        Assert.False(SameValues.IsCopy(new PlainSource(head), Saved(directory["trained"], type, head.Shape, bytes)));
        Assert.False(SameValues.IsCopy(new PlainSource(head), Saved(directory["flat"], type, [head.Shape.Count()], bytes)));
    }

    private static StoredTensor Saved(string path, TensorType type, IReadOnlyList<long> shape, byte[] bytes)
    {
        var header = Encoding.ASCII.GetBytes(
            $$"""{"w":{"dtype":"{{type}}","shape":{{shape.Text()}},"data_offsets":[0,{{bytes.Length}}] } }""");
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        File.WriteAllBytes(path, [.. length, .. header, .. bytes]);
        return SafetensorsFile.Open(path).Tensors.Single();
    }
}
