using UnslothMerge.Adapters;
using UnslothMerge.Adapters.Terms;
using UnslothMerge.IO;
using static TorchSharp.torch;

namespace UnslothMerge.Torch.Terms;

/// <summary>Gives every row a magnitude: (m / ‖W + Δ‖₂) ⊙ (W + Δ), with the norm in fp64.</summary>
internal sealed class MagnitudeRows(MagnitudeTerm term, InputFiles files, Device device) : RowTerm
{
    private readonly Tensor _magnitudes = tensor(AdapterValues.Read(files, term.Magnitude), device: device).DetachFromDisposeScope();

    public override void Apply(Tensor weight, Tensor delta, long row, int rows, TransferBuffers buffers, int number)
    {
        using var wide = weight.to(ScalarType.Float64);
        wide.add_(delta).mul_(wide);
        using var squares = wide.sum(1);
        using var mine = _magnitudes.narrow(0, row, rows);
        using var factors = mine.div(squares.sqrt_()).to(ScalarType.Float32).unsqueeze(1);

        // factor · (W + Δ) − W, in place of Δ.
        delta.add_(weight).mul_(factors).sub_(weight);
    }

    public override void Dispose() => _magnitudes.Dispose();
}
