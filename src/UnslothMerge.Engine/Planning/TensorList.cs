using System.Collections;

namespace UnslothMerge.Planning;

/// <summary>The tensors of a model in the making, each at its ordinal. One that is as the base has it is made when it is asked for: a model
/// may have a million of them.</summary>
internal sealed class TensorList : IReadOnlyList<LogicalTensor>
{
    private readonly IReadOnlyList<LogicalTensor> _base;
    private readonly Dictionary<int, LogicalTensor> _changed;
    private readonly List<LogicalTensor> _added;

    /// <summary>Begins with the tensors of another list.</summary>
    public TensorList(IReadOnlyList<LogicalTensor> tensors)
    {
        var other = tensors as TensorList;
        (_base, _changed, _added) = (other?._base ?? tensors, new(other?._changed ?? []), [.. other?._added ?? []]);
    }

    public int Count => _base.Count + _added.Count;

    public LogicalTensor this[int ordinal]
    {
        get => ordinal >= _base.Count ? _added[ordinal - _base.Count] : _changed.GetValueOrDefault(ordinal) ?? _base[ordinal];
        set
        {
            if (ordinal >= _base.Count)
            {
                _added[ordinal - _base.Count] = value;
            }
            else
            {
                _changed[ordinal] = value;
            }
        }
    }

    public void Add(LogicalTensor tensor) => _added.Add(tensor);

    /// <summary>Takes one away that was added; those behind it move up.</summary>
    public void Remove(int place) => _added.RemoveAt(place - _base.Count);

    public IEnumerator<LogicalTensor> GetEnumerator() => Enumerable.Range(0, Count).Select(i => this[i]).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
