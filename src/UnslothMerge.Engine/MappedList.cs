using System.Collections;

namespace UnslothMerge;

/// <summary>A list whose items are made of another list's, and of their places, as they are asked for.</summary>
internal sealed class MappedList<TSource, T>(IReadOnlyList<TSource> source, Func<TSource, int, T> map) : IReadOnlyList<T>
{
    public int Count => source.Count;

    public T this[int index] => map(source[index], index);

    public IEnumerator<T> GetEnumerator() => source.Select(map).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
