using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>
/// <c>value | Should -Operator expected</c>. The operators are parameters made from <see cref="ShouldOperator.All"/>,
/// so one that is missing there is a parameter that does not exist.
/// </summary>
[Cmdlet(VerbsDiagnostic.Test, "PesterValue")]
[Alias("Should")]
public sealed class ShouldCommand : PSCmdlet, IDynamicParameters
{
    private const string BecauseName = "Because";

    private readonly List<object?> _input = [];
    private readonly RuntimeDefinedParameterDictionary _parameters = [];

    [Parameter(ValueFromPipeline = true)]
    public object? ActualValue { get; set; }

    [Parameter(Position = 0)]
    [Alias("ExpectedType", "RegularExpression", "ExpectedMessage")]
    public object? ExpectedValue { get; set; }

    [Parameter]
    public SwitchParameter Not { get; set; }

    [Parameter]
    public string? ErrorId { get; set; }

    [Parameter]
    public Type? ExceptionType { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <summary>Whether an expected value was given; it may be $null.</summary>
    internal bool HasExpected => MyInvocation.BoundParameters.ContainsKey(nameof(ExpectedValue));

    public object GetDynamicParameters()
    {
        // -Because is one of them, else -Be would be taken for its beginning before the operators are looked at.
        Add(BecauseName, typeof(string));
        foreach (var each in ShouldOperator.All)
        {
            Add(each.Name, typeof(SwitchParameter));
        }

        return _parameters;

        void Add(string name, Type type) =>
            _parameters.Add(name, new RuntimeDefinedParameter(name, type, [new ParameterAttribute()]));
    }

    protected override void ProcessRecord() => _input.Add(ActualValue);

    protected override void EndProcessing()
    {
        if (!MyInvocation.ExpectingInput)
        {
            throw new PSArgumentException("Should takes its value from the pipeline.");
        }

        var should = Chosen();
        should.Check(this);
        if (should.TakesCollection)
        {
            Assert(should, _input.ToArray());
            return;
        }

        // Nothing in the pipeline is $null; of several values each must do.
        foreach (var actual in _input.DefaultIfEmpty(null))
        {
            Assert(should, actual);
        }
    }

    private ShouldOperator Chosen()
    {
        var chosen = ShouldOperator.All
            .Where(each => MyInvocation.BoundParameters.TryGetValue(each.Name, out var on) && (SwitchParameter)on)
            .ToList();
        return chosen.Count == 1
            ? chosen[0]
            : throw new PSArgumentException($"Should takes one operator, here are {chosen.Count}.");
    }

    private void Assert(ShouldOperator should, object? actual)
    {
        if (should.Fails(this, actual) is not { } failure)
        {
            return;
        }

        var reason = _parameters[BecauseName].Value as string;
        var because = string.IsNullOrWhiteSpace(reason) ? "" : $", because {reason.Trim()}";
        ThrowTerminatingError(new ErrorRecord(
            new ShouldException($"{failure}{because}."),
            "PesterAssertionFailed",
            ErrorCategory.InvalidResult,
            actual));
    }
}

internal sealed class ShouldException(string message) : Exception(message);
