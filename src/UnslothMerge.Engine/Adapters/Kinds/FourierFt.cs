using System.Numerics;
using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>FourierFT: W + scaling·Re(ifft2(S)), where S [out, in] holds the spectrum [n] at random places and zero elsewhere. The places
/// follow from <c>random_loc_seed</c>. Source: arXiv 2405.03003; PEFT 0.21, <c>fourierft</c>.</summary>
internal sealed class FourierFt() : MatrixKind("FourierFT", "FOURIERFT", [Spectrum])
{
    private const string Spectrum = "fourierft_spectrum";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var spectrum = module.Numbers(Spectrum, 1);
        var transposed = module.IsTransposed(null, null);
        var (outputs, inputs) = module.Features(transposed);
        var seed = RandomPlaces.Seed(module, outputs, inputs, spectrum);
        return new MatrixDelta([spectrum], from =>
        {
            var places = RandomPlaces.Draw(seed, outputs, inputs, from.Read(spectrum));
            return transposed
                ? new Waves([.. places.Select(p => (p.Column, p.Row, p.Value))], inputs, outputs)
                : new Waves(places, outputs, inputs);
        })
        {
            IsTransposed = transposed,
            IsTurned = transposed,
            Scaling = module.Config.ValueOf(module.Name, "scaling") / ((double)outputs * inputs),
            ExtraBytes = 10L * 16 * Math.Max(outputs, inputs),
        };
    }

    // Of the two transforms of an inverse FFT, that over the rows has few non-zero terms and is summed; the other one is fast, row by row.
    private sealed class Waves((int Row, int Column, double Value)[] places, int rows, int columns) : DeltaMatrix
    {
        private readonly FourierTransform _transform = new(columns);

        public override bool NeedsWholeRows => true;

        public override void Fill(Block block, Span<double> values)
        {
            var rented = ArrayPool<Complex>.Shared.Rent(_transform.WorkLength);
            var line = rented.AsSpan(0, _transform.WorkLength);
            for (var i = 0; i < block.Rows; i++)
            {
                line.Clear();
                foreach (var (row, column, value) in places)
                {
                    // The product can pass 2³¹; its remainder keeps the angle exact.
                    var turns = (double)((long)row * (block.Row + i) % rows) / rows;
                    line[column] += Complex.FromPolarCoordinates(value, 2 * Math.PI * turns);
                }

                _transform.Inverse(line);
                for (var j = 0; j < columns; j++)
                {
                    values[(i * columns) + j] = line[j].Real;
                }
            }

            ArrayPool<Complex>.Shared.Return(rented);
        }
    }
}
