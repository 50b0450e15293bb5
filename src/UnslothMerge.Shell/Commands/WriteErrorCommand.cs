using System.Management.Automation;

namespace UnslothMerge.Shell.Commands;

/// <summary>Writes an error and goes on.</summary>
[Cmdlet(VerbsCommunications.Write, "Error", DefaultParameterSetName = "NoException")]
public sealed class WriteErrorCommand : PSCmdlet
{
    /// <summary>What went wrong.</summary>
    [Parameter(ParameterSetName = "NoException", Mandatory = true, Position = 0, ValueFromPipeline = true)]
    [Parameter(ParameterSetName = "WithException")]
    [Alias("Msg")]
    [AllowEmptyString]
    public string? Message { get; set; }

    /// <summary>The exception behind the error.</summary>
    [Parameter(ParameterSetName = "WithException", Mandatory = true, Position = 0, ValueFromPipeline = true)]
    public Exception? Exception { get; set; }

    /// <summary>An error to pass on.</summary>
    [Parameter(ParameterSetName = "ErrorRecord", Mandatory = true, Position = 0, ValueFromPipeline = true)]
    public ErrorRecord? ErrorRecord { get; set; }

    /// <summary>The kind of error.</summary>
    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public ErrorCategory Category { get; set; }

    /// <summary>The id to know the error by.</summary>
    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public string? ErrorId { get; set; }

    /// <summary>What the error is about.</summary>
    [Parameter(ParameterSetName = "NoException")]
    [Parameter(ParameterSetName = "WithException")]
    public object? TargetObject { get; set; }

    /// <summary>What to do about it.</summary>
    [Parameter]
    public string? RecommendedAction { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        var exception = Exception ?? new RuntimeException(Message);
        var record = ErrorRecord is not null
            ? new ErrorRecord(ErrorRecord, null)
            : new ErrorRecord(exception, ErrorId ?? exception.GetType().FullName ?? "", Category, TargetObject);
        if (!string.IsNullOrEmpty(Message) || !string.IsNullOrEmpty(RecommendedAction))
        {
            record.ErrorDetails = new ErrorDetails(string.IsNullOrEmpty(Message) ? record.ToString() : Message)
            {
                RecommendedAction = RecommendedAction ?? "",
            };
        }

        WriteError(record);
    }
}
