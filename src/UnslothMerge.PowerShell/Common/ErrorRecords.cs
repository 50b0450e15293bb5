using System.Management.Automation;

namespace UnslothMerge.PowerShell.Common;

/// <summary>Makes every ErrorRecord: a stable id, a true category, the target, and what to do.</summary>
internal static class ErrorRecords
{
    /// <summary>The record of an engine error.</summary>
    public static ErrorRecord From(MergeException exception) =>
        Make(exception, exception.Error.ToString(), CategoryOf(exception.Error), exception.Target, exception.Advice, exception.Details.Count > 10 ? " All of them: $Error[0].Exception.Details." : "");

    /// <summary>The record of a bad argument.</summary>
    public static ErrorRecord BadArgument(string parameter, string message, string? advice = null) =>
        Make(new ArgumentException(message, parameter), "InvalidArgument", ErrorCategory.InvalidArgument, parameter, advice);

    private static ErrorRecord Make(Exception exception, string id, ErrorCategory category, object? target, string? advice, string more = "") =>
        new(exception, id, category, target)
        {
            // PowerShell shows the recommendation below the message by itself.
            ErrorDetails = new ErrorDetails(exception.Message + more) { RecommendedAction = advice ?? "" },
        };

    private static ErrorCategory CategoryOf(MergeError error) => error switch
    {
        MergeError.InvalidModel or MergeError.InvalidAdapter or MergeError.InvalidSafetensors => ErrorCategory.InvalidData,
        MergeError.UnsupportedAdapter or MergeError.UnsupportedFormat => ErrorCategory.NotImplemented,
        MergeError.AdapterDoesNotFit => ErrorCategory.InvalidData,
        MergeError.InvalidOption or MergeError.IncompleteModel => ErrorCategory.InvalidArgument,
        MergeError.InvalidDestination => ErrorCategory.WriteError,
        MergeError.NonFiniteResult => ErrorCategory.InvalidResult,
        MergeError.FileChanged => ErrorCategory.ReadError,
        MergeError.DoesNotFit => ErrorCategory.ResourceUnavailable,
        _ => ErrorCategory.NotSpecified,
    };
}
