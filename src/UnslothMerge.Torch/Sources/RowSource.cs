using static TorchSharp.torch;

namespace UnslothMerge.Torch.Sources;

/// <summary>Brings a tensor's rows up as they are stored, and decodes them on the device.</summary>
internal abstract class RowSource : IDisposable
{
    /// <summary>Decodes some rows.</summary>
    /// <returns>fp32 [rows · columns].</returns>
    public abstract Tensor Read(long row, int rows, Staging staging);

    /// <inheritdoc/>
    public abstract void Dispose();
}
