namespace UnslothMerge.PowerShell.Common;

/// <summary>Lets a parameter take one of an enum's values, as such or by name. The parameter is a string: PowerShell itself completes
/// those of an enum, or with a ValidateSet, and then shows no descriptions.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal class ChoiceAttribute<T> : ArgumentTransformationAttribute
    where T : struct, Enum
{
    public override object? Transform(EngineIntrinsics engineIntrinsics, object? inputData)
    {
        var given = (inputData is PSObject { BaseObject: var inner } ? inner : inputData) is string text ? Spelling(text) : inputData;
        return given is null or "" || !IsChecked(given) ? given
            : LanguagePrimitives.TryConvertTo(given, CultureInfo.InvariantCulture, out T choice) && Enum.IsDefined(choice)
            ? choice.ToString()
            : throw new ArgumentTransformationMetadataException(
                $"'{given}' is none of its values. Use one of these: {string.Join(", ", Enum.GetNames<T>())}.");
    }

    /// <summary>The name that another spelling means.</summary>
    private protected virtual string Spelling(string text) => text;

    /// <summary>False for what is no value, and is refused later with a reason.</summary>
    private protected virtual bool IsChecked(object given) => true;
}
