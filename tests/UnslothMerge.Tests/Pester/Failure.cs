using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>What PowerShell knows of an error, as text.</summary>
internal static class Failure
{
    /// <summary>The error record of an exception that came out of a script: what a catch there would have in $_.</summary>
    public static ErrorRecord Record(Exception error) => error switch
    {
        // PowerShell's own exceptions have a stand-in in their record.
        IContainsErrorRecord { ErrorRecord: { Exception: ParentContainsErrorRecordException } record } => new(record, error),
        IContainsErrorRecord { ErrorRecord: { } record } => record,
        _ => new(error, error.GetType().Name, ErrorCategory.NotSpecified, null),
    };

    /// <summary>Message, line and call stack.</summary>
    public static string Text(Exception error)
    {
        var record = Record(error);
        // On its way out an error gets the host's own lines as its position: the innermost is the file's.
        var position = Causes(error).Select(cause => Record(cause).InvocationInfo)
            .LastOrDefault(info => info is { ScriptName.Length: > 0 } && !IsHost(info.ScriptName))?.PositionMessage;
        // The frames without a file are the host's own.
        var stack = (record.ScriptStackTrace ?? "").Split('\n', StringSplitOptions.TrimEntries)
            .Where(frame => frame.Contains(".ps1: line", StringComparison.OrdinalIgnoreCase) && !IsHost(frame));
        return string.Join('\n', stack.Prepend(position).Prepend(record.Exception.Message).Where(line => !string.IsNullOrEmpty(line)));
    }

    private static bool IsHost(string text) => text.Contains(Scope.FilePrefix, StringComparison.Ordinal);

    private static IEnumerable<Exception> Causes(Exception error)
    {
        for (var cause = error; cause is not null; cause = cause.InnerException)
        {
            yield return cause;
        }
    }
}
