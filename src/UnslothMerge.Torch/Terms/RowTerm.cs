using static TorchSharp.torch;

namespace UnslothMerge.Torch.Terms;

/// <summary>Applies one delta to rows on the device.</summary>
internal abstract class RowTerm : IDisposable
{
    /// <summary>True if it changes any of these rows.</summary>
    public virtual bool Changes(long row, int rows) => true;

    /// <summary>Changes the delta [rows, columns], the sum of earlier terms, of some rows; the weight stays. The number is the term's place
    /// among the tensor's, for buffers of its own.</summary>
    public abstract void Apply(Tensor weight, Tensor delta, long row, int rows, TransferBuffers buffers, int number);

    public abstract void Dispose();
}
