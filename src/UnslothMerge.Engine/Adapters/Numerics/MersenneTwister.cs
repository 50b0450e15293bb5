namespace UnslothMerge.Adapters.Numerics;

/// <summary>The random generator behind torch.Generator on the CPU: MT19937 (Matsumoto and Nishimura, 1998), seeded with a 32-bit number.
/// Source: ATen, <c>MT19937RNGEngine</c> and <c>CPUGeneratorImpl</c>.</summary>
internal sealed class MersenneTwister
{
    private const int Length = 624;
    private const int Middle = 397;

    private readonly uint[] _state = new uint[Length];
    private int _next = Length;

    /// <summary>Seeds the generator as <c>manual_seed</c> does; only the lowest 32 bits count.</summary>
    public MersenneTwister(long seed)
    {
        _state[0] = unchecked((uint)seed);
        for (var i = 1; i < Length; i++)
        {
            _state[i] = unchecked((1812433253u * (_state[i - 1] ^ (_state[i - 1] >> 30))) + (uint)i);
        }
    }

    /// <summary>The next 32 random bits.</summary>
    public uint Next32()
    {
        if (_next == Length)
        {
            Turn();
        }

        var value = _state[_next++];
        value ^= value >> 11;
        value ^= (value << 7) & 0x9d2c5680;
        value ^= (value << 15) & 0xefc60000;
        return value ^ (value >> 18);
    }

    /// <summary>The next 64 random bits: two draws, the first one high.</summary>
    public ulong Next64()
    {
        ulong high = Next32();
        return (high << 32) | Next32();
    }

    private void Turn()
    {
        for (var i = 0; i < Length; i++)
        {
            var bits = (_state[i] & 0x80000000) | (_state[(i + 1) % Length] & 0x7fffffff);
            _state[i] = _state[(i + Middle) % Length] ^ (bits >> 1) ^ ((bits & 1) * 0x9908b0df);
        }

        _next = 0;
    }
}
