namespace UnslothMerge.PowerShell.Common;

/// <summary>An argument that the command cannot work with.</summary>
/// <param name="target">The parameter's name, or the path where one of several is bad.</param>
/// <param name="message">What is wrong.</param>
/// <param name="advice">What the user can do about it.</param>
internal sealed class BadArgumentException(string target, string message, string? advice) : ArgumentException(message)
{
    /// <summary>The parameter or path concerned.</summary>
    public string Target { get; } = target;

    /// <summary>What the user can do about it.</summary>
    public string? Advice { get; } = advice;
}
