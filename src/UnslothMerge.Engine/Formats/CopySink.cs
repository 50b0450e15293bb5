namespace UnslothMerge.Formats;

/// <summary>The stored tensors of one that nothing changes: the weight and all its companions, whose bytes are copied.</summary>
internal sealed class CopySink(string name, TensorSource source) : TensorSink
{
    /// <summary>What is copied, in the order of <see cref="Outputs"/>.</summary>
    public IReadOnlyList<StoredTensor> Copied => source.Inputs;

    public override IReadOnlyList<TensorSpec> Outputs { get; } = [.. source.Inputs.Select(t => Output(name, source.Inputs[0], t))];

    public override string Format => source.Format;

    public override long BytesOf(MatrixView view, int rows) => 0;

    public override TensorWriter Open(InputFiles files, MatrixView view, IOutput output) =>
        throw new InvalidOperationException("Copied tensors are not encoded.");

    /// <summary>What a stored tensor, the main one or a companion, is in the output, where its weight may belong to another
    /// layer.</summary>
    internal static TensorSpec Output(string name, StoredTensor main, StoredTensor stored) =>
        new(Module(name) + stored.Name[Module(main.Name).Length..], stored.Type, stored.Shape);

    private static string Module(string name) => name[..Math.Max(0, name.LastIndexOf('.'))];
}
