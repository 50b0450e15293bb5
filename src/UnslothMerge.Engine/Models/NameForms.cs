namespace UnslothMerge.Models;

/// <summary>A name without its numbers, each of which has left a <see cref="NameForms.Mark"/>; valid until the next is read.</summary>
internal readonly ref struct NameForm(ReadOnlySpan<char> text, ReadOnlySpan<int> numbers)
{
    public ReadOnlySpan<char> Text { get; } = text;

    public ReadOnlySpan<int> Numbers { get; } = numbers;
}

/// <summary>
/// Takes the numbers of layers and experts out of names. Of the forms that are left a model has some dozens, and rules treat all names of
/// a form alike: what they make of one tells what they make of a hundred thousand. Numbers that a rule names stay in the form.
/// </summary>
internal sealed class NameForms
{
    /// <summary>What stands for a number: no character.</summary>
    public const char Mark = '\uFFFF';

    private const int MaxDigits = 6;
    private const int MaxNumbers = 8;

    private readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> _fixed;
    private readonly bool _takesNumbers;
    private readonly int[] _numbers = new int[MaxNumbers];
    private char[] _text = new char[256];

    /// <summary>For some rules; if one of them minds how large a number is, names keep theirs.</summary>
    public NameForms(IReadOnlyList<NameRule> rules)
    {
        _takesNumbers = rules.All(r => r.TakesAnyNumber);
        _fixed = rules.SelectMany(r => r.Numbers).ToHashSet(StringComparer.Ordinal).GetAlternateLookup<ReadOnlySpan<char>>();
        Samples = new int[MaxNumbers];
        for (var (i, number) = (0, 1_000_000); i < MaxNumbers; i += IsFixed(number) ? 0 : 1)
        {
            Samples[i] = --number;
        }
    }

    /// <summary>Numbers that stand for others, in the name that rules are applied to.</summary>
    public int[] Samples { get; }

    /// <summary>A name in which everything stays.</summary>
    public static string Whole(string name) => $"{Mark}{Mark}{name}";

    /// <summary>Reads a name. A number is a part of it before a dot; one at the end stays.</summary>
    public NameForm Read(ReadOnlySpan<char> name)
    {
        if (_text.Length < name.Length + 2)
        {
            _text = new char[2 * (name.Length + 2)];
        }

        if (name.Contains(Mark))
        {
            _text[0] = _text[1] = Mark;
            name.CopyTo(_text.AsSpan(2));
            return new NameForm(_text.AsSpan(0, name.Length + 2), default);
        }

        var (length, count) = (0, 0);
        for (int start = 0, dot; start <= name.Length; start = dot + 1)
        {
            dot = name[start..].IndexOf('.') is >= 0 and var at ? start + at : name.Length;
            var part = name[start..dot];
            if (_takesNumbers && dot < name.Length && count < MaxNumbers && IsNumber(part, out var number))
            {
                _numbers[count++] = number;
                _text[length++] = Mark;
            }
            else
            {
                part.CopyTo(_text.AsSpan(length));
                length += part.Length;
            }

            if (dot < name.Length)
            {
                _text[length++] = '.';
            }
        }

        return new NameForm(_text.AsSpan(0, length), _numbers.AsSpan(0, count));
    }

    /// <summary>The name of a form with some numbers.</summary>
    public static string Fill(string form, ReadOnlySpan<int> numbers)
    {
        if (form.Length > 1 && form[0] == Mark && form[1] == Mark)
        {
            return form[2..];
        }

        if (numbers.IsEmpty)
        {
            return form;
        }

        var name = new DefaultInterpolatedStringHandler(form.Length, numbers.Length, CultureInfo.InvariantCulture, stackalloc char[256]);
        var rest = form.AsSpan();
        foreach (var number in numbers)
        {
            var mark = rest.IndexOf(Mark);
            name.AppendFormatted(rest[..mark]);
            name.AppendFormatted(number);
            rest = rest[(mark + 1)..];
        }

        name.AppendFormatted(rest);
        return name.ToStringAndClear();
    }

    private bool IsNumber(ReadOnlySpan<char> part, out int number)
    {
        number = 0;
        return part.Length is > 0 and <= MaxDigits && !part.ContainsAnyExceptInRange('0', '9') && (part[0] != '0' || part.Length == 1)
            && !_fixed.Contains(part) && int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out number);
    }

    private bool IsFixed(int number) => _fixed.Contains(number.ToString(CultureInfo.InvariantCulture));
}
