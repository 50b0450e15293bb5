namespace UnslothMerge.Formats.BitsAndBytes;

/// <summary>Finds the weights that bitsandbytes stored with 4 bits: those that have a quantization state beside them.</summary>
internal sealed class FourBitFormat : IStoredFormat
{
    private const string StateInfix = ".quant_state.bitsandbytes__";

    public IEnumerable<FoundTensor> Find(Checkpoint checkpoint, ModelConfig config)
    {
        var linears = new Lazy<ClassLinears?>(() => ClassLinears.Of(ModelClass.Of(config)));
        foreach (var stateJson in checkpoint.Tensors)
        {
            var infix = stateJson.Name.IndexOf(StateInfix, StringComparison.Ordinal);
            if (infix > 0)
            {
                var found = Weight(checkpoint, stateJson.Name[..infix], stateJson);
                yield return linears.Value?.KindOfWeight(found.Name) == WeightKind.Conv1D
                    ? found with { Source = new TransposedSource(found.Source) } : found;
            }
        }
    }

    private static FoundTensor Weight(Checkpoint checkpoint, string name, StoredTensor stateJson)
    {
        var state = QuantState.Parse(ReadState(stateJson), stateJson.Name);
        var nested = state.NestedBlockSize is not null;
        var tensors = new FourBitTensors(
            Find(""),
            Find(".absmax"),
            Find(".quant_map"),
            nested ? Find(".nested_absmax") : null,
            nested ? Find(".nested_quant_map") : null,
            stateJson);

        var elements = state.Shape.Count();
        var blocks = (elements + state.BlockSize - 1) / state.BlockSize;
        Expect(tensors.Packed, (elements + 1) / 2, null);
        Expect(tensors.AbsMax, blocks * (nested ? 1 : sizeof(float)), nested ? TensorType.U8 : TensorType.F32);
        Expect(tensors.QuantMap, 16 * sizeof(float), TensorType.F32);
        if (nested)
        {
            Expect(
                tensors.NestedAbsMax!, (blocks + state.NestedBlockSize!.Value - 1) / state.NestedBlockSize.Value * sizeof(float),
                TensorType.F32);
            Expect(tensors.NestedQuantMap!, 256 * sizeof(float), TensorType.F32);
        }

        return new FoundTensor(name, new FourBitSource(tensors, state));

        StoredTensor Find(string suffix) => checkpoint.Find(name + suffix)
            ?? throw Damaged($"'{name + suffix}' is missing, without which '{name}' cannot be decoded");

        void Expect(StoredTensor tensor, long bytes, TensorType? type)
        {
            // The last byte of the packed weight may be followed by padding where another dtype than U8 holds the bytes.
            var slack = type is null ? tensor.Type.Bits() / 8 : 1;
            if (tensor.Length < bytes || tensor.Length >= bytes + slack || (type is not null && tensor.Type != type))
            {
                throw Damaged(
                    $"'{tensor.Name}' is {tensor.Type} {tensor.Shape.Text()}, {tensor.Length} bytes, but {bytes} "
                    + $"bytes{(type is null ? "" : $" of {type}")} belong to {state.QuantType} {state.Shape.Text()} in blocks of "
                    + $"{state.BlockSize}");
            }
        }

        MergeException Damaged(string what) =>
            new(
                MergeError.InvalidModel, $"The 4-bit weight '{name}' is damaged: {what}.", name,
                "Download the model again, or use its 16-bit original.");
    }

    private static byte[] ReadState(StoredTensor tensor)
    {
        if (tensor.Length > Limits.QuantStateBytes)
        {
            throw new MergeException(
                MergeError.InvalidModel,
                $"The quantization state '{tensor.Name}' has {tensor.Length} bytes; at most {Limits.QuantStateBytes} are read.",
                tensor.File.Path, "Quantize the model again, or use its 16-bit original.");
        }

        using var files = new InputFiles();
        return files.ReadAll(tensor);
    }
}
