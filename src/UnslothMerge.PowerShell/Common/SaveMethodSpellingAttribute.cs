namespace UnslothMerge.PowerShell.Common;

/// <summary>Accepts Unsloth's other names of a method, in any case, with spaces, hyphens or underscores. What is refused with a reason
/// passes; <see cref="ExportMethods.Require"/> refuses it.</summary>
/// <remarks>They are no values of the enum, which would be offered for completion under its first name several times.</remarks>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class SaveMethodSpellingAttribute : ChoiceAttribute<SaveMethod>
{
    private protected override string Spelling(string text)
    {
        var plain = ExportMethods.Plain(text);
        return plain is "merged4bitforced" or "forcedmerged4bit" ? nameof(SaveMethod.merged_4bit)
            : Enum.GetNames<SaveMethod>().FirstOrDefault(n => ExportMethods.Plain(n) == plain) ?? ExportMethods.Find(text) ?? text;
    }

    private protected override bool IsChecked(object given) => given is not string text || !ExportMethods.IsRefused(text);
}
