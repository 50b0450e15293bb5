using System.Numerics;

namespace UnslothMerge.Adapters.Numerics;

/// <summary>The inverse discrete Fourier transform of any length in double, without the factor 1/n: x[j] = Σ X[k]·e^(2πi·jk/n). Powers of
/// two by Cooley and Tukey (1965), other lengths as a convolution by Bluestein (1970). Immutable once made.</summary>
internal sealed class FourierTransform
{
    private readonly int _length;
    private readonly int _size;
    private readonly Complex[] _roots;
    private readonly Complex[] _chirp;
    private readonly Complex[] _spectrum;

    /// <summary>Prepares for a length.</summary>
    public FourierTransform(int length)
    {
        _length = length;
        _size = BitOperations.IsPow2(length) ? length : (int)BitOperations.RoundUpToPowerOf2((uint)((2 * length) - 1));
        _roots = [.. Enumerable.Range(0, Math.Max(_size / 2, 1)).Select(k => Root(k, _size))];
        (_chirp, _spectrum) = _size == length ? ([], []) : Chirp();
    }

    /// <summary>The complex numbers that <see cref="Inverse"/> works in.</summary>
    public int WorkLength => _size;

    /// <summary>Transforms a spectrum in place. The span is as long as <see cref="WorkLength"/>; spectrum and result are its first
    /// values.</summary>
    public void Inverse(Span<Complex> values)
    {
        if (_chirp.Length == 0)
        {
            PowerOfTwo(values, conjugate: false);
            return;
        }

        // jk = (j² + k² − (j − k)²) / 2 makes the transform a convolution with the conjugate chirp.
        for (var k = 0; k < _length; k++)
        {
            values[k] *= _chirp[k];
        }

        values[_length.._size].Clear();
        PowerOfTwo(values, conjugate: true);
        for (var k = 0; k < _size; k++)
        {
            values[k] *= _spectrum[k];
        }

        PowerOfTwo(values, conjugate: false);
        for (var j = 0; j < _length; j++)
        {
            values[j] *= _chirp[j] / _size;
        }
    }

    // e^(2πi·k/n), exact in the quarter turns.
    private static Complex Root(long k, long n) => (4 * k % n) == 0 ? (4 * k / n) switch
    {
        0 => Complex.One,
        1 => Complex.ImaginaryOne,
        2 => -Complex.One,
        _ => -Complex.ImaginaryOne,
    } : Complex.FromPolarCoordinates(1, 2 * Math.PI * k / n);

    private (Complex[] Chirp, Complex[] Spectrum) Chirp()
    {
        var chirp = new Complex[_length];
        var spectrum = new Complex[_size];
        for (long k = 0; k < _length; k++)
        {
            chirp[k] = Root(k * k % (2L * _length), 2L * _length);
            spectrum[k] = Complex.Conjugate(chirp[k]);
            spectrum[(_size - k) % _size] = spectrum[k];
        }

        PowerOfTwo(spectrum, conjugate: true);
        return (chirp, spectrum);
    }

    private void PowerOfTwo(Span<Complex> values, bool conjugate)
    {
        for (int i = 1, j = 0; i < _size; i++)
        {
            var bit = _size >> 1;
            for (; (j & bit) != 0; bit >>= 1)
            {
                j ^= bit;
            }

            j ^= bit;
            if (i < j)
            {
                (values[i], values[j]) = (values[j], values[i]);
            }
        }

        for (var half = 1; half < _size; half *= 2)
        {
            var step = _size / (2 * half);
            for (var start = 0; start < _size; start += 2 * half)
            {
                for (var k = 0; k < half; k++)
                {
                    var root = conjugate ? Complex.Conjugate(_roots[k * step]) : _roots[k * step];
                    var (even, odd) = (values[start + k], values[start + k + half] * root);
                    values[start + k] = even + odd;
                    values[start + k + half] = even - odd;
                }
            }
        }
    }
}
