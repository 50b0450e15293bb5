using static TorchSharp.torch;

namespace UnslothMerge.Torch.Terms;

/// <summary>Applies one delta to rows on the device.</summary>
internal abstract class RowTerm : IDisposable
{
    /// <summary>True if it changes any of these rows.</summary>
    public virtual bool Changes(long row, int rows) => true;

    /// <summary>Changes the delta of some rows.</summary>
    /// <param name="weight">fp32 [rows, columns]; left as it is.</param>
    /// <param name="delta">fp32 [rows, columns]: what earlier terms add.</param>
    /// <param name="row">The first row.</param>
    /// <param name="rows">The number of rows.</param>
    /// <param name="staging">Brings up what the rows need.</param>
    /// <param name="number">The term's place among the tensor's, for buffers of its own.</param>
    public abstract void Apply(Tensor weight, Tensor delta, long row, int rows, Staging staging, int number);

    /// <inheritdoc/>
    public abstract void Dispose();
}
