using System.Numerics;

namespace UnslothMerge.Safetensors;

/// <summary>Finds names of a list: with eight to sixteen bytes a name, where a dictionary takes forty.</summary>
/// <param name="nameOf">The name at a place of the list.</param>
/// <param name="capacity">How many names are expected.</param>
internal sealed class NameIndex(Func<int, string> nameOf, int capacity)
{
    // Places, counted from 1, each where its hash says or behind it.
    private int[] _slots = new int[Size(capacity)];

    /// <summary>The number of names.</summary>
    public int Count { get; private set; }

    /// <summary>Adds the next name of the list; false if it is there already.</summary>
    public bool TryAdd()
    {
        if (2 * (Count + 1) > _slots.Length)
        {
            Grow();
        }

        var slot = SlotOf(nameOf(Count));
        if (_slots[slot] != 0)
        {
            return false;
        }

        _slots[slot] = ++Count;
        return true;
    }

    /// <summary>The place of a name; -1 if it is not in the list.</summary>
    public int Find(ReadOnlySpan<char> name) => _slots[SlotOf(name)] - 1;

    private int SlotOf(ReadOnlySpan<char> name)
    {
        var slot = string.GetHashCode(name) & (_slots.Length - 1);
        while (_slots[slot] != 0 && !name.SequenceEqual(nameOf(_slots[slot] - 1)))
        {
            slot = (slot + 1) & (_slots.Length - 1);
        }

        return slot;
    }

    private void Grow()
    {
        _slots = new int[2 * _slots.Length];
        for (var i = 0; i < Count; i++)
        {
            _slots[SlotOf(nameOf(i))] = i + 1;
        }
    }

    private static int Size(int capacity) => (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(2 * capacity, 16));
}
