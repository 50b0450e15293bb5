using UnslothMerge.Adapters.Numerics;
using UnslothMerge.Adapters.Terms;

namespace UnslothMerge.Adapters.Kinds;

/// <summary>WaveFT: W + scaling·S, or the inverse wavelet transform of S, where S holds the spectrum [n] at random places and zero
/// elsewhere. The places follow from <c>random_loc_seed</c>. Source: arXiv 2505.12532; PEFT 0.21, <c>waveft</c>.</summary>
internal sealed class WaveFt() : MatrixKind("WaveFT", "WAVEFT", [Spectrum])
{
    private const string Spectrum = "waveft_spectrum";

    protected override MatrixDelta Build(AdaptedModule module)
    {
        var spectrum = module.Numbers(Spectrum, 1);
        var transposed = module.IsTransposed(null, null);
        var (outputs, inputs) = module.Features(transposed);
        var seed = RandomPlaces.Seed(module, outputs, inputs, spectrum);
        var family = module.Config.Json.String("wavelet_family") ?? "db1";
        var inverse = module.Config.Flag("use_idwt") ?? true;
        var filters = Wavelets.Find(family);
        AdaptedModule.Require(
            !inverse || filters is not null, $"the wavelet_family '{family}' is not one of {string.Join(", ", Wavelets.Names)}");
        var length = inverse ? filters!.Value.Low.Length : 1;
        return new MatrixDelta([spectrum], from =>
        {
            var places = RandomPlaces.Draw(seed, outputs, inputs, from.Read(spectrum));
            if (inverse)
            {
                places = [.. Expand(places, outputs, inputs, filters!.Value)];
            }

            return new SparseMatrix(outputs, places.Length, i => places[i]);
        })
        {
            IsTransposed = transposed,
            Scaling = module.Config.ValueOf(module.Name, "scaling"),
            ExtraBytes = spectrum.Shape[0] * length * length * 40,
        };
    }

    // S lies in the middle of a matrix that is larger by the filter's length − 2, rounded up to even; its quadrants are the low-pass and
    // high-pass coefficients. One level up, a coefficient becomes the outer product of its two filters, of which the edges are cut off
    // again.
    private static IEnumerable<(int Row, int Column, double Value)> Expand(
        (int Row, int Column, double Value)[] places, int outputs, int inputs, (double[] Low, double[] High) filters)
    {
        var length = filters.Low.Length;
        foreach (var (row, column, value) in places)
        {
            var ((startRow, below), (startColumn, right)) = (Place(row, outputs), Place(column, inputs));

            // PEFT's quadrants: the right half is high in the rows, the lower half high in the columns.
            var (rowFilter, columnFilter) = (right ? filters.High : filters.Low, below ? filters.High : filters.Low);
            for (var i = Math.Max(0, -startRow); i < length && startRow + i < outputs; i++)
            {
                for (var j = Math.Max(0, -startColumn); j < length && startColumn + j < inputs; j++)
                {
                    yield return (startRow + i, startColumn + j, value * rowFilter[i] * columnFilter[j]);
                }
            }
        }

        (int Start, bool SecondHalf) Place(int index, int size)
        {
            var half = (size + length - 1) / 2;
            var at = index + (((2 * half) - size) / 2);
            return ((2 * (at % half)) - (length - 2), at >= half);
        }
    }
}
