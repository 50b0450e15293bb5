namespace UnslothMerge.PowerShell.Common;

/// <summary>Accepts Unsloth's other names of a method, in any case, with spaces, hyphens or underscores. What is refused with a reason
/// becomes a negative number.</summary>
/// <remarks>They are no values of the enum, which would be offered for completion under its first name several times.</remarks>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SaveMethodSpellingAttribute : ArgumentTransformationAttribute
{
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        if (inputData is not string text)
        {
            return inputData;
        }

        var plain = ExportMethods.Plain(text);
        return plain is "merged4bitforced" or "forcedmerged4bit" ? SaveMethod.merged_4bit
            : Enum.GetNames<SaveMethod>().FirstOrDefault(n => ExportMethods.Plain(n) == plain) is { } name ? name
            : ExportMethods.Find(text) is { } method ? method
            : ExportMethods.RefusedRow(text) is { } row ? (SaveMethod)(-1 - row)
            : text;
    }
}
