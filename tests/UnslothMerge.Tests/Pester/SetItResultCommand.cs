using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>Ends an It as skipped. The other results of Pester are not supported.</summary>
[Cmdlet(VerbsCommon.Set, "ItResult")]
public sealed class SetItResultCommand : PSCmdlet
{
    [Parameter(Mandatory = true)]
    public SwitchParameter Skipped { get; set; }

    [Parameter]
    public string? Because { get; set; }

    protected override void EndProcessing()
    {
        if (!Session.Current.InIt || !Skipped)
        {
            throw new InvalidOperationException("Set-ItResult works in an It, with -Skipped.");
        }

        // An error, as in Pester: what follows in the It does not run.
        var reason = new ItSkippedException(string.IsNullOrWhiteSpace(Because) ? "Set-ItResult -Skipped" : Because);
        ThrowTerminatingError(new ErrorRecord(reason, "PesterTestSkipped", ErrorCategory.OperationStopped, null));
    }
}

internal sealed class ItSkippedException(string reason) : Exception(reason);
