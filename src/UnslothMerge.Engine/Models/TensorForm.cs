namespace UnslothMerge.Models;

/// <summary>A name that tensors of one form have on their way through the rules. A slot for each of its numbers says which of theirs it
/// is, as the complement of its place; a slot from 0 is the number itself.</summary>
internal sealed record NameStep(string Form, int[] Slots, NameRule? Conversion, int Source, int Target, int? NumberSlot)
{
    /// <summary>The name of the tensor with some numbers.</summary>
    public string Alias(ReadOnlySpan<int> numbers)
    {
        Span<int> filled = stackalloc int[Slots.Length];
        for (var i = 0; i < filled.Length; i++)
        {
            filled[i] = Value(Slots[i], numbers);
        }

        return NameForms.Fill(Form, filled);
    }

    /// <summary>The origin that this tensor is.</summary>
    public Origin Origin(string name, ReadOnlySpan<int> numbers) =>
        new(name, Conversion, Source, Target, NumberSlot is { } slot ? Value(slot, numbers) : null);

    /// <summary>What a slot stands for.</summary>
    public static int Value(int slot, ReadOnlySpan<int> numbers) => slot < 0 ? numbers[~slot] : slot;
}

/// <summary>All tensors whose names differ in numbers only, and the names that they have on their way.</summary>
internal sealed class TensorForm(string text, int numbers, IReadOnlyList<NameStep> steps)
{
    /// <summary>The form of their names.</summary>
    public string Text => text;

    /// <summary>How many numbers a name has.</summary>
    public int Numbers => numbers;

    /// <summary>The steps of the way, the checkpoint's name first.</summary>
    public IReadOnlyList<NameStep> Steps => steps;

    /// <summary>Their places in the checkpoint; none for a name that is only asked for.</summary>
    public List<int> Places { get; } = [];
}
