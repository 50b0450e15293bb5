using static TorchSharp.torch;

namespace UnslothMerge.Torch.Sources;

/// <summary>Uploads a tensor's rows as they are stored, and decodes them on the device.</summary>
internal abstract class RowSource : IDisposable
{
    /// <summary>Decodes some rows to fp32 [rows · columns].</summary>
    public abstract Tensor Read(long row, int rows, TransferBuffers buffers);

    public abstract void Dispose();
}
