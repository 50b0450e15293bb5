namespace UnslothMerge.Models;

/// <summary>A tensor that was found: its place in the checkpoint, the step of its way, and what the index holds of that.</summary>
internal sealed record FoundStep<T>(int Place, TensorForm Form, int Step, T Detail);

/// <summary>
/// Tensors by a key that follows from a step of their way: the name itself, or its module. Keys are kept by form, so the index is as large
/// as a model has forms, however many tensors it has.
/// </summary>
/// <param name="forms">Takes keys apart.</param>
/// <param name="placeOf">The place of a tensor in the checkpoint; -1 if there is none of that name.</param>
/// <param name="numbersOf">The numbers in the name at a place.</param>
/// <param name="bare">A key without the containers that it begins with.</param>
internal sealed class FormIndex<T>(
    NameForms forms, Func<string, int> placeOf, FormIndex<T>.NumbersOf numbersOf, Func<string, string> bare)
{
    private readonly Dictionary<string, List<Entry>> _entries = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<string>> _bare = new(StringComparer.Ordinal);

    /// <summary>The numbers in the name at a place.</summary>
    public delegate ReadOnlySpan<int> NumbersOf(int place);

    /// <summary>True if no tensor has such a key.</summary>
    public bool IsEmpty => _entries.Count == 0;

    /// <summary>Adds a step of all tensors of a form, by the form of its key.</summary>
    public void Add(string key, TensorForm form, int step, T detail)
    {
        if (!_entries.TryGetValue(key, out var entries))
        {
            _entries.Add(key, entries = []);
            var rest = bare(key);
            if (!_bare.TryGetValue(rest, out var alike))
            {
                _bare.Add(rest, alike = []);
            }

            alike.Add(key);
        }

        entries.Add(new Entry(key, form, step, detail));
    }

    /// <summary>The tensors of a key, in the order of the checkpoint and of their ways.</summary>
    public IReadOnlyList<FoundStep<T>> Find(string key)
    {
        var read = forms.Read(key);
        if (!_entries.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(read.Text, out var entries))
        {
            return [];
        }

        var numbers = read.Numbers.ToArray();
        var found = entries.SelectMany(e => Places(e, key, numbers).Select(p => new FoundStep<T>(p, e.Form, e.Step, e.Detail)));
        return [.. found.OrderBy(f => f.Place).ThenBy(f => f.Step)];
    }

    /// <summary>The keys that are this one but for the containers before it.</summary>
    public IReadOnlyList<string> Alike(string key)
    {
        var read = forms.Read(bare(key));
        var numbers = read.Numbers.ToArray();
        return !_bare.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(read.Text, out var alike) ? []
            : [.. alike.Select(a => NameForms.Fill(a, numbers))];
    }

    private List<int> Places(Entry entry, string key, int[] numbers)
    {
        Span<int> bound = stackalloc int[entry.Form.Numbers];
        bound.Fill(-1);
        for (var i = 0; i < numbers.Length; i++)
        {
            var slot = entry.Slots[i];
            if (slot >= 0 ? slot != numbers[i] : bound[~slot] >= 0 && bound[~slot] != numbers[i])
            {
                return [];
            }

            if (slot < 0)
            {
                bound[~slot] = numbers[i];
            }
        }

        if (bound.Contains(-1))
        {
            return entry.Grouped(numbersOf, key);
        }

        return placeOf(NameForms.Fill(entry.Form.Text, bound)) is >= 0 and var place ? [place] : [];
    }

    private sealed class Entry(string keyForm, TensorForm form, int step, T detail)
    {
        private Dictionary<string, List<int>>? _groups;
        private int _grouped;

        public TensorForm Form => form;

        public int Step => step;

        public T Detail => detail;

        /// <summary>What the numbers of the key are.</summary>
        public int[] Slots { get; } =
            keyForm[0] == NameForms.Mark && keyForm.Length > 1 && keyForm[1] == NameForms.Mark ? []
            : [.. form.Steps[step].Slots.Take(keyForm.AsSpan().Count(NameForms.Mark))];

        /// <summary>The tensors of a key that does not tell all of their numbers: the experts of a layer.</summary>
        public List<int> Grouped(NumbersOf numbersOf, string key)
        {
            _groups ??= new(StringComparer.Ordinal);
            for (; _grouped < form.Places.Count; _grouped++)
            {
                var numbers = numbersOf(form.Places[_grouped]);
                var filled = new int[Slots.Length];
                for (var i = 0; i < filled.Length; i++)
                {
                    filled[i] = NameStep.Value(Slots[i], numbers);
                }

                var group = NameForms.Fill(keyForm, filled);
                if (!_groups.TryGetValue(group, out var places))
                {
                    _groups.Add(group, places = []);
                }

                places.Add(form.Places[_grouped]);
            }

            return _groups.GetValueOrDefault(key) ?? [];
        }
    }
}
