using System.Security;
using UnslothMerge.Hub.Publishing;

namespace UnslothMerge.PowerShell.Common;

/// <summary>What a command says of the commit that it makes on the Hub.</summary>
// A cmdlet has one base class: what saves a merge has the parameters of the output from it, and declares these itself.
internal interface IPublishing
{
    SwitchParameter Private { get; }

    string? Revision { get; }

    SwitchParameter CreatePullRequest { get; }

    string? CommitMessage { get; }

    string? CommitDescription { get; }

    SecureString? Token { get; }
}

/// <summary>The parameters of a publication, for commands that have no others.</summary>
public abstract class PublishingCommand : EngineCommand, IPublishing
{
    internal const string HubSet = "Hub";

    /// <summary>Makes a new repository private, and refuses an existing one that is public.</summary>
    [Parameter(ParameterSetName = HubSet)]
    public SwitchParameter Private { get; set; }

    /// <summary>The branch on the Hub, made if it is not there; or a pull request that exists, such as refs/pr/7.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "main")]
    public string? Revision { get; set; }

    /// <summary>Makes the commit a new pull request. The right to read is enough.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [Alias("CreatePr")]
    public SwitchParameter CreatePullRequest { get; set; }

    /// <summary>The first line of the commit.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "Upload merged model; of an adapter, Upload adapter")]
    public string? CommitMessage { get; set; }

    /// <summary>What else the commit says.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    public string? CommitDescription { get; set; }

    /// <summary>The access token; by default HF_TOKEN, or that of 'hf auth login'.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [TokenTransformation]
    [ValidateNotNull]
    public SecureString? Token { get; set; }
}
