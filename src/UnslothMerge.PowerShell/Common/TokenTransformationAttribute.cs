using System.Security;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Takes a token that is given as a text, too: the error of a failed conversion would show it.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class TokenTransformationAttribute : ArgumentTransformationAttribute
{
    public override object? Transform(EngineIntrinsics engineIntrinsics, object? inputData)
    {
        if ((inputData is PSObject { BaseObject: var inner } ? inner : inputData) is not string text)
        {
            return inputData;
        }

        var secret = new SecureString();
        foreach (var character in text)
        {
            secret.AppendChar(character);
        }

        secret.MakeReadOnly();
        return secret;
    }
}
