namespace UnslothMerge.Tests.Pester;

/// <summary>A test file whose tests could not be found, with PowerShell's message.</summary>
internal sealed class PesterException(string message, Exception cause) : Exception(message, cause);
