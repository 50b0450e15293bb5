using System.Numerics;

namespace UnslothMerge.Adapters.Combining;

/// <summary>Which elements of a delta are among the largest: those above a magnitude, given as fp32 bits without the sign (they order as
/// the magnitudes do), and of those equal to it the ones up to an index.</summary>
internal readonly record struct MagnitudeCutoff(uint Bits, long LastEqual)
{
    /// <summary>The bits of an fp32 number without its sign.</summary>
    public const uint Magnitude = 0x7fffffff;

    /// <summary>Zeroes the elements of a run that are not among the largest. The index is that of its first element.</summary>
    public void Apply(long index, Span<float> values)
    {
        var withEqual = (int)Math.Clamp(LastEqual - index, -1, values.Length - 1) + 1;
        DropBelow(Bits, values[..withEqual]);
        DropBelow(Bits + 1, values[withEqual..]);
    }

    private static void DropBelow(uint smallest, Span<float> values)
    {
        var bits = MemoryMarshal.Cast<float, uint>(values);
        var vectors = MemoryMarshal.Cast<uint, Vector<uint>>(bits);
        foreach (ref var vector in vectors)
        {
            vector &= Vector.GreaterThanOrEqual(vector & new Vector<uint>(Magnitude), new Vector<uint>(smallest));
        }

        foreach (ref var value in bits[(vectors.Length * Vector<uint>.Count)..])
        {
            value = (value & Magnitude) >= smallest ? value : 0;
        }
    }
}

/// <summary>Finds the elements of largest magnitude without holding them: all are seen two or three times in the same order, and counted by
/// the upper 16 bits of the magnitude, then by the lower 15 of those that share the upper ones, and last, where not all equal ones belong
/// to them, by their index.</summary>
internal sealed class LargestMagnitudes(long keep)
{
    /// <summary>The memory that it takes, in bytes.</summary>
    public const long Bytes = Bins * sizeof(long);

    private const int LowBits = 15;
    private const int Bins = 1 << (31 - LowBits);

    private readonly long[] _counts = new long[Bins];
    private Pass _pass = keep > 0 ? Pass.High : Pass.Done;
    private long _left = keep;
    private uint _bits = keep > 0 ? 0 : uint.MaxValue;
    private long _index;
    private long _lastEqual = long.MaxValue;

    private enum Pass
    {
        High,
        Low,
        Equal,
        Done,
    }

    /// <summary>True if no further pass is needed.</summary>
    public bool IsDone => _pass == Pass.Done;

    /// <summary>What was found.</summary>
    public MagnitudeCutoff Cutoff => new(_bits, _lastEqual);

    /// <summary>Counts the next elements of a pass.</summary>
    public void Add(ReadOnlySpan<float> values)
    {
        var magnitudes = MemoryMarshal.Cast<float, uint>(values);
        var counts = _counts;
        switch (_pass)
        {
            case Pass.High:
                foreach (var bits in magnitudes)
                {
                    counts[(bits & MagnitudeCutoff.Magnitude) >> LowBits]++;
                }

                break;
            case Pass.Low:
                foreach (var bits in magnitudes)
                {
                    var low = (bits & MagnitudeCutoff.Magnitude) - _bits;
                    if (low < 1 << LowBits)
                    {
                        counts[low]++;
                    }
                }

                break;
            case Pass.Equal:
                for (var i = 0; i < magnitudes.Length && _left > 0; i++)
                {
                    if ((magnitudes[i] & MagnitudeCutoff.Magnitude) == _bits && --_left == 0)
                    {
                        _lastEqual = _index + i;
                    }
                }

                _index += magnitudes.Length;
                break;
            default:
                break;
        }
    }

    /// <summary>Ends a pass, in which all elements were seen.</summary>
    public void EndPass()
    {
        switch (_pass)
        {
            case Pass.High:
                _bits = Descend() << LowBits;
                Array.Clear(_counts);
                _pass = Pass.Low;
                break;
            case Pass.Low:
                var low = Descend();
                _bits += low;
                _pass = _left == _counts[low] ? Pass.Done : Pass.Equal;
                break;
            default:
                _pass = Pass.Done;
                break;
        }
    }

    // From the largest down to the bin that holds the last of those to keep; leaves how many of that bin are to be kept.
    private uint Descend()
    {
        var bin = Bins - 1;
        while (_counts[bin] < _left)
        {
            _left -= _counts[bin--];
        }

        return (uint)bin;
    }
}
