using System.Net;

namespace UnslothMerge.Hub;

/// <summary>An error that the Hub answered, or that kept it from answering.</summary>
internal sealed class HubException(MergeError error, string message, string? target, string? advice, Exception? inner = null)
    : MergeException(error, message, target, advice, inner)
{
    /// <summary>The status of the answer; null if there was none.</summary>
    public HttpStatusCode? Status { get; init; }

    /// <summary>The Hub's own code, X-Error-Code; null if it gave none.</summary>
    public string? Code { get; init; }

    /// <summary>How the Hub's operators find the request.</summary>
    public string? RequestId { get; init; }

    /// <summary>True if the same request may succeed later.</summary>
    public bool MayRepeat { get; init; }

    public override bool IsTransient => MayRepeat || Error == MergeError.HubConflict;

    /// <summary>How long the Hub asked to wait before the next request.</summary>
    public TimeSpan? RetryAfter { get; init; }
}
