using System.Security;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The base of commands that read models by their names on the Hub.</summary>
public abstract class HubCommand : EngineCommand
{
    /// <summary>Asks nothing of the Hub: models that are named must be in the cache. HF_HUB_OFFLINE does the same.</summary>
    [Parameter]
    public SwitchParameter Offline { get; set; }

    /// <summary>An access token of the Hub; by default that of HF_TOKEN or of hf auth login.</summary>
    [Parameter]
    [TokenTransformation]
    [ValidateNotNull]
    [PSDefaultValue(Help = "That of HF_TOKEN or of hf auth login")]
    public SecureString? Token { get; set; }

    private protected override void Begin() => Hub = new HubOptions { Offline = Offline, Token = Token };
}
