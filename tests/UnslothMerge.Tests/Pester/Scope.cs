using System.Management.Automation;
using Pipeline = System.Management.Automation.PowerShell;

namespace UnslothMerge.Tests.Pester;

/// <summary>
/// Opens PowerShell scopes around C# code, so that what a BeforeAll sets is seen by the Its inside and by nobody else.
/// PowerShell opens a scope only to run a script, so the script is one that calls back: <c>Invoke-PesterStep</c>.
/// </summary>
internal sealed class Scope
{
    /// <summary>Code that runs in a scope.</summary>
    /// <param name="here">A command running in that scope.</param>
    public delegate void Step(PSCmdlet here);

    /// <summary>How the names of the script files made here begin.</summary>
    public const string FilePrefix = "pester-scope-";

    // Inside a try, so that an error that ends a statement ends the test too, as it does in Pester.
    private const string CallBack = "try { Invoke-PesterStep } catch { throw }";

    private readonly ScriptBlock _callBack = ScriptBlock.Create(CallBack);
    private Step? _next;

    /// <summary>Runs <paramref name="step"/> in the scope of a pipeline of its own: the global one.</summary>
    public void Start(Pipeline pipeline, Step step)
    {
        _next = step;
        pipeline.AddCommand("Invoke-PesterStep").Invoke();
    }

    /// <summary>Runs <paramref name="step"/> in a new scope inside the one of <paramref name="here"/>.</summary>
    public void New(PSCmdlet here, Step step)
    {
        _next = step;
        here.InvokeCommand.InvokeScript(useLocalScope: true, _callBack, input: null);
    }

    /// <summary>
    /// Runs <paramref name="step"/> in a new script scope: what $script: means inside. Only a script on disk opens one.
    /// </summary>
    public void NewScript(PSCmdlet here, Step step)
    {
        var script = Path.Combine(Path.GetTempPath(), $"{FilePrefix}{Path.GetRandomFileName()}.ps1");
        File.WriteAllText(script, CallBack);
        try
        {
            _next = step;
            here.InvokeCommand.InvokeScript(useLocalScope: false, ScriptBlock.Create("& $args[0]"), input: null, script);
        }
        finally
        {
            File.Delete(script);
        }
    }

    /// <summary>Runs a script block in the scope of <paramref name="here"/> itself. Its output is dropped, as in Pester.</summary>
    public static void Dot(PSCmdlet here, ScriptBlock body)
    {
        try
        {
            here.InvokeCommand.InvokeScript(useLocalScope: false, body, input: null);
        }
        catch (FlowControlException error)
        {
            // Nobody outside may take this for his own: an "exit" would end the host's script in silence.
            throw new InvalidOperationException($"break, continue or exit left the script block ({error.GetType().Name}).", error);
        }
    }

    /// <summary>Sets the variables of a -ForEach in the scope of <paramref name="here"/>.</summary>
    public static void Set(PSCmdlet here, Iteration? iteration)
    {
        foreach (var (name, value) in iteration?.Variables ?? [])
        {
            here.SessionState.PSVariable.Set(name, value);
        }
    }

    /// <summary>Runs the step that opened the scope of <paramref name="here"/>.</summary>
    public void RunNext(PSCmdlet here)
    {
        var step = _next ?? throw new InvalidOperationException("Invoke-PesterStep is not for test files.");
        _next = null;
        step(here);
    }
}

/// <summary>The way back from a script into C#: see <see cref="Scope"/>.</summary>
[Cmdlet(VerbsLifecycle.Invoke, "PesterStep")]
public sealed class InvokePesterStepCommand : PSCmdlet
{
    protected override void EndProcessing() => Session.Current.Scope.RunNext(this);
}
