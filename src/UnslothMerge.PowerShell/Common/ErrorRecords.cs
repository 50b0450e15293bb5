namespace UnslothMerge.PowerShell.Common;

/// <summary>Makes every ErrorRecord: stable id, category, target, recommended action.</summary>
internal static class ErrorRecords
{
    private const string Unexpected = "UnexpectedError";

    /// <summary>The record of an error; null for what PowerShell itself throws, which passes.</summary>
    public static ErrorRecord? From(Exception exception) => exception switch
    {
        MergeException e =>
            Make(
                e, e.Error.ToString(), CategoryOf(e.Error), e.Target, e.Advice,
                e.Details.Count > 10 ? " All of them: $Error[0].Exception.Details." : ""),
        UnauthorizedAccessException e =>
            Make(
                new MergeException(MergeError.AccessDenied, e.Message, inner: e), nameof(MergeError.AccessDenied),
                ErrorCategory.PermissionDenied, null,
                "Run as a user who may read that file or folder, or change its permissions."),
        IOException e =>
            Make(
                new MergeException(MergeError.FileNotAccessible, e.Message, inner: e), nameof(MergeError.FileNotAccessible),
                ErrorCategory.ReadError, null,
                "Check that the file is there and that its disk or network share can be reached."),

        // A drive, provider or item that the session does not know: PowerShell's own record says it best.
        SessionStateException e => new ErrorRecord(e.ErrorRecord, e),
        RuntimeException or OperationCanceledException => null,
        IContainsErrorRecord e => new ErrorRecord(e.ErrorRecord, exception),
        OutOfMemoryException e =>
            Make(
                new MergeException(MergeError.DoesNotFit, $"There is not enough memory: {e.Message}", inner: e),
                nameof(MergeError.DoesNotFit), ErrorCategory.ResourceUnavailable, null,
                "Close other programs, or limit the merge with -MaximumMemoryUsage and -ThrottleLimit."),

        // Nobody should see this one: what a file can be, or the machine can do, has an error of its own.
        var e =>
            Make(
                new InvalidOperationException($"Unexpected error ({e.GetType().Name}): {e.Message}", e), Unexpected,
                ErrorCategory.NotSpecified, null,
                "This is a fault of UnslothMerge. Please report it with the output of: $Error[0].Exception.InnerException.ToString()"),
    };

    private static ErrorRecord Make(
        Exception exception, string id, ErrorCategory category, object? target, string? advice, string more = "") =>
        new(exception, id, category, target)
        {
            // As a part of the message the recommendation is in "$_" and in logs. PowerShell would show a RecommendedAction once more.
            ErrorDetails = new ErrorDetails(exception.Message + more + (string.IsNullOrEmpty(advice) ? "" : "\n" + advice)),
        };

    private static ErrorCategory CategoryOf(MergeError error) => error switch
    {
        MergeError.InvalidModel or MergeError.InvalidAdapter or MergeError.InvalidSafetensors or MergeError.InvalidRecipe =>
            ErrorCategory.InvalidData,
        MergeError.UnsupportedAdapter or MergeError.UnsupportedFormat => ErrorCategory.NotImplemented,
        MergeError.SourceNotFound => ErrorCategory.ObjectNotFound,
        MergeError.AdapterDoesNotFit => ErrorCategory.InvalidData,
        MergeError.MergedBase or MergeError.InvalidArgument or MergeError.InvalidOption or MergeError.IncompleteModel
            or MergeError.PartsDiffer => ErrorCategory.InvalidArgument,
        MergeError.PartsMissing => ErrorCategory.ResourceUnavailable,
        MergeError.FileNotAccessible => ErrorCategory.ReadError,
        MergeError.PathNotFound or MergeError.TensorNotFound => ErrorCategory.ObjectNotFound,
        MergeError.InvalidDestination => ErrorCategory.InvalidArgument,
        MergeError.DestinationExists => ErrorCategory.ResourceExists,
        MergeError.AccessDenied => ErrorCategory.PermissionDenied,
        MergeError.DiskFull or MergeError.WriteFailed => ErrorCategory.WriteError,
        MergeError.Stopped => ErrorCategory.OperationStopped,
        MergeError.NonFiniteResult => ErrorCategory.InvalidResult,
        MergeError.FileChanged => ErrorCategory.ReadError,
        MergeError.DoesNotFit or MergeError.DeviceUnavailable => ErrorCategory.ResourceUnavailable,
        MergeError.HubNotFound => ErrorCategory.ObjectNotFound,
        MergeError.HubAccessDenied => ErrorCategory.PermissionDenied,
        MergeError.HubRefused => ErrorCategory.InvalidOperation,
        MergeError.HubConflict => ErrorCategory.ResourceExists,
        MergeError.HubUnavailable => ErrorCategory.ConnectionError,
        _ => ErrorCategory.NotSpecified,
    };
}
