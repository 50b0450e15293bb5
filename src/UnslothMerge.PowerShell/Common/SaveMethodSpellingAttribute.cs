namespace UnslothMerge.PowerShell.Common;

/// <summary>Accepts Unsloth's other names of a method: merged_4bit_forced, forced_merged_4bit, spaces or hyphens.</summary>
/// <remarks>They are no values of the enum, which would be offered for completion under its first name several times.</remarks>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SaveMethodSpellingAttribute : ArgumentTransformationAttribute
{
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData) => inputData is not string text
        ? inputData
        : text.Trim().Replace(' ', '_').Replace('-', '_').ToLowerInvariant() switch
        {
            "merged_4bit_forced" or "forced_merged_4bit" => SaveMethod.merged_4bit,
            var name => name,
        };
}
