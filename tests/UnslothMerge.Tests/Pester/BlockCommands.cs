using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>What Describe, Context and It have in common.</summary>
public abstract class NodeCommand : PSCmdlet
{
    private const string NeedsTag = "Needs:";

    [Parameter(Mandatory = true, Position = 0)]
    public string Name { get; set; } = "";

    [Parameter(Mandatory = true, Position = 1)]
    public ScriptBlock? Body { get; set; }

    [Parameter]
    [Alias("Tags")]
    public string[] Tag { get; set; } = [];

    [Parameter]
    public SwitchParameter Skip { get; set; }

    [Parameter]
    [Alias("TestCases")]
    public object[]? ForEach { get; set; }

    private protected Session Session { get; } = Session.Current;

    protected sealed override void EndProcessing()
    {
        var parent = Session.Discover(MyInvocation.InvocationName);
        Session.RefuseParameters(Body, MyInvocation.InvocationName);
        foreach (var iteration in Iterations())
        {
            Session.Scope.New(this, here =>
            {
                Scope.Set(here, iteration);
                Add(here, parent, NameTemplate.Fill(here, Name, Known(parent, iteration)), iteration);
            });
        }
    }

    /// <summary>Adds one node; the variables of <paramref name="iteration"/> are set.</summary>
    private protected abstract void Add(PSCmdlet here, Block parent, string name, Iteration? iteration);

    /// <summary>Why this node is skipped, or null.</summary>
    private protected string? SkipReason()
    {
        var missing = Tag.Where(tag => tag.StartsWith(NeedsTag, StringComparison.OrdinalIgnoreCase))
            .Select(tag => tag[NeedsTag.Length..])
            .Where(command => !Exists(command));
        return Skip ? "marked -Skip" : missing.FirstOrDefault() is { } command ? $"needs {command}" : null;
    }

    private static HashSet<string> Known(Block parent, Iteration? iteration) =>
        parent.Path.Select(block => block.Iteration)
            .Append(iteration)
            .SelectMany(each => each?.Variables ?? [])
            .Select(variable => variable.Key)
            .ToHashSet(StringComparer.OrdinalIgnoreCase);

    private IEnumerable<Iteration?> Iterations()
    {
        if (!MyInvocation.BoundParameters.ContainsKey(nameof(ForEach)))
        {
            return [null];
        }

        // Pester 5 makes no test of it and says nothing, Pester 6 fails.
        return ForEach is { Length: > 0 } items
            ? items.Select(item => new Iteration(item))
            : throw new InvalidOperationException($"-ForEach of '{Name}' is empty.");
    }

    private bool Exists(string name)
    {
        // PowerShell has aliases (select, sort …) of commands that are not there.
        var command = InvokeCommand.GetCommand(name, CommandTypes.All);
        return command is AliasInfo alias ? alias.ResolvedCommand is not null : command is not null;
    }
}

[Cmdlet(VerbsCommon.Add, "PesterBlock")]
[Alias("Describe", "Context")]
public sealed class AddPesterBlockCommand : NodeCommand
{
    private protected override void Add(PSCmdlet here, Block parent, string name, Iteration? iteration)
    {
        var block = new Block(parent, name, iteration) { Tags = Tag, OwnSkip = SkipReason() };
        parent.Items.Add(block);
        Session.Discovering = block;
        try
        {
            Scope.Dot(here, Body!);
        }
        finally
        {
            Session.Discovering = parent;
        }
    }
}

[Cmdlet(VerbsCommon.Add, "PesterTest")]
[Alias("It")]
public sealed class AddPesterTestCommand : NodeCommand
{
    private protected override void Add(PSCmdlet here, Block parent, string name, Iteration? iteration)
    {
        if (parent.Parent is null)
        {
            throw new InvalidOperationException("It belongs into a Describe or Context.");
        }

        parent.Items.Add(new It(parent, name, iteration, Body!) { Tags = Tag, OwnSkip = SkipReason() });
    }
}
