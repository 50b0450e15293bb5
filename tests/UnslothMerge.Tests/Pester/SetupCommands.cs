using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>What the four commands that run around tests have in common.</summary>
public abstract class SetupCommand : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    public ScriptBlock? ScriptBlock { get; set; }

    private protected abstract Setup Setup { get; }

    protected sealed override void EndProcessing()
    {
        Session.RefuseParameters(ScriptBlock, Setup.ToString());
        var block = Session.Current.Discover(Setup.ToString());
        if (block.Parent is null && Setup is Setup.BeforeEach or Setup.AfterEach)
        {
            throw new NotSupportedException($"{Setup} outside a Describe is not supported, in Pester neither.");
        }

        // Pester would run the last one only.
        if (!block.Setups.TryAdd(Setup, ScriptBlock))
        {
            throw new InvalidOperationException($"There is a second {Setup} in the same block.");
        }
    }
}

[Cmdlet(VerbsCommon.Add, "PesterBeforeAll")]
[Alias("BeforeAll")]
public sealed class AddPesterBeforeAllCommand : SetupCommand
{
    private protected override Setup Setup => Setup.BeforeAll;
}

[Cmdlet(VerbsCommon.Add, "PesterBeforeEach")]
[Alias("BeforeEach")]
public sealed class AddPesterBeforeEachCommand : SetupCommand
{
    private protected override Setup Setup => Setup.BeforeEach;
}

[Cmdlet(VerbsCommon.Add, "PesterAfterEach")]
[Alias("AfterEach")]
public sealed class AddPesterAfterEachCommand : SetupCommand
{
    private protected override Setup Setup => Setup.AfterEach;
}

[Cmdlet(VerbsCommon.Add, "PesterAfterAll")]
[Alias("AfterAll")]
public sealed class AddPesterAfterAllCommand : SetupCommand
{
    private protected override Setup Setup => Setup.AfterAll;
}

/// <summary>Runs at once: what it sets is for the -ForEach and -Skip that follow, not for the tests.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "PesterBeforeDiscovery")]
[Alias("BeforeDiscovery")]
public sealed class InvokePesterBeforeDiscoveryCommand : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    public ScriptBlock? ScriptBlock { get; set; }

    protected override void EndProcessing()
    {
        Session.RefuseParameters(ScriptBlock, "BeforeDiscovery");
        Session.Current.Discover("BeforeDiscovery");
        Scope.Dot(this, ScriptBlock);
    }
}
