using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>One operator of Should.</summary>
/// <param name="name">The parameter that chooses it.</param>
internal abstract class ShouldOperator(string name)
{
    /// <summary>All there are.</summary>
    public static IReadOnlyList<ShouldOperator> All { get; } =
    [
        new EqualOperator("Be", "-eq"),
        new EqualOperator("BeExactly", "-ceq"),
        new ScriptOperator("BeTrue", "be true", "[bool] $actual", takesExpected: false),
        new ScriptOperator("BeFalse", "be false", "-not $actual", takesExpected: false),
        new NullOrEmptyOperator(),
        // With a negation of their own, so that NaN, which is neither more nor less, fails both ways.
        new ScriptOperator("BeGreaterThan", "be greater than", "$actual -gt $expected", "$actual -le $expected", single: true),
        new ScriptOperator("BeGreaterOrEqual", "be at least", "$actual -ge $expected", "$actual -lt $expected", single: true),
        new ScriptOperator("BeLessThan", "be less than", "$actual -lt $expected", "$actual -ge $expected", single: true),
        new ScriptOperator("BeLessOrEqual", "be at most", "$actual -le $expected", "$actual -gt $expected", single: true),
        new ScriptOperator("BeLike", "be like", "$actual -like $expected", single: true),
        new ScriptOperator("BeLikeExactly", "be exactly like", "$actual -clike $expected", single: true),
        new ScriptOperator("Match", "match", "$actual -match $expected", single: true),
        new ScriptOperator("MatchExactly", "match exactly", "$actual -cmatch $expected", single: true),
        new ScriptOperator("Contain", "contain", "$actual -contains $expected", takesCollection: true),
        new ScriptOperator("BeIn", "be in", "$expected -contains $actual"),
        new CountOperator(),
        new TypeOperator(),
        new ExistOperator(),
        new ThrowOperator(),
    ];

    public string Name { get; } = name;

    /// <summary>Whether it sees all of the pipeline as one array, or each value alone.</summary>
    public virtual bool TakesCollection => false;

    protected virtual bool TakesExpected => true;

    /// <summary>Refuses parameters that this operator would ignore.</summary>
    public virtual void Check(ShouldCommand should)
    {
        if (should.HasExpected != TakesExpected)
        {
            throw new PSArgumentException($"Should -{Name} takes {(TakesExpected ? "an" : "no")} expected value.");
        }

        if (should.ErrorId is not null || should.ExceptionType is not null || should.PassThru)
        {
            throw new PSArgumentException("-ErrorId, -ExceptionType and -PassThru are for Should -Throw.");
        }
    }

    /// <summary>Why the assertion fails, without the full stop; null when it holds.</summary>
    public abstract string? Fails(ShouldCommand should, object? actual);

    /// <summary>A sentence that fits most operators.</summary>
    protected static string Sentence(ShouldCommand should, object? actual, string phrase)
    {
        var expected = should.HasExpected ? $" {Show.Value(should.ExpectedValue)}" : "";
        return $"Expected {Show.Value(actual)} {(should.Not ? "not to" : "to")} {phrase}{expected}";
    }

    /// <summary>What PowerShell says to an expression of $actual and $expected.</summary>
    protected static bool Holds(ShouldCommand should, string expression, object? actual, object? expected)
    {
        var script = ScriptBlock.Create($"param($actual, $expected) [bool]({expression})");
        var answer = should.InvokeCommand.InvokeScript(useLocalScope: true, script, input: null, actual, expected);
        return answer is [{ BaseObject: bool holds }]
            ? holds
            : throw new InvalidOperationException($"'{expression}' has no answer.");
    }
}
