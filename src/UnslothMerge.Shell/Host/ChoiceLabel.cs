using System.Management.Automation;
using System.Management.Automation.Host;

namespace UnslothMerge.Shell.Host;

/// <summary>One answer of a question: its name and the key before which its label has an ampersand.</summary>
internal sealed record ChoiceLabel(string Key, string Name)
{
    public static ChoiceLabel Parse(ChoiceDescription choice)
    {
        var mark = choice.Label.IndexOf('&', StringComparison.Ordinal);
        var name = mark < 0 ? choice.Label : choice.Label.Remove(mark, 1);
        var key = mark >= 0 && mark < name.Length ? name[mark].ToString().ToUpperInvariant() : name;
        return new ChoiceLabel(key, name);
    }

    /// <summary>The line that offers the answers, the default in another colour.</summary>
    public static string Menu(IReadOnlyList<ChoiceLabel> labels, int defaultChoice)
    {
        var offers = labels.Select((label, i) => i == defaultChoice
            ? $"{PSStyle.Instance.Foreground.Yellow}[{label.Key}] {label.Name}{PSStyle.Instance.Reset}"
            : $"[{label.Key}] {label.Name}");
        var hint = defaultChoice >= 0 ? $" (default is \"{labels[defaultChoice].Key}\")" : "";
        return $"{string.Join("  ", offers)}  [?] Help{hint}: ";
    }

    public bool Matches(string answer) =>
        answer.Equals(Key, StringComparison.OrdinalIgnoreCase) || answer.Equals(Name, StringComparison.OrdinalIgnoreCase);
}
