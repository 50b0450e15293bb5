using System.Collections;
using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>An operator that is an expression of PowerShell.</summary>
internal sealed class ScriptOperator(
    string name,
    string phrase,
    string holds,
    string? holdsNot = null,
    bool takesExpected = true,
    bool takesCollection = false,
    bool single = false) : ShouldOperator(name)
{
    public override bool TakesCollection => takesCollection;

    protected override bool TakesExpected => takesExpected;

    public override string? Fails(ShouldCommand should, object? actual)
    {
        // With a list on the left PowerShell would filter it, and "some" would pass for "all".
        if (single && LanguagePrimitives.GetEnumerable(actual) is not null)
        {
            throw new PSArgumentException($"Should -{Name} takes single values, not a collection in the pipeline.");
        }

        var expression = should.Not ? holdsNot ?? $"-not ({holds})" : holds;
        return Holds(should, expression, actual, should.ExpectedValue) ? null : Sentence(should, actual, phrase);
    }
}

/// <summary>-Be: collections by their elements, everything else by PowerShell's own equality.</summary>
internal sealed class EqualOperator(string name, string comparison) : ShouldOperator(name)
{
    private const int DepthLimit = 100;

    public override bool TakesCollection => true;

    public override string? Fails(ShouldCommand should, object? actual)
    {
        if (Same(should, actual, should.ExpectedValue, 0) != should.Not)
        {
            return null;
        }

        var single = actual is object[] { Length: 1 } values ? values[0] : actual;
        return Sentence(should, single, Name == "Be" ? "be" : "be exactly");
    }

    private static bool IsNothing(object?[] values) => values is [] or [null];

    private static object?[] Elements(object? value) => value is null
        ? []
        : LanguagePrimitives.GetEnumerable(value) is { } many ? [.. many.Cast<object?>()] : [value];

    private static bool IsArray(object? value) => (value is PSObject wrapped ? wrapped.BaseObject : value) is Array;

    private bool Same(ShouldCommand should, object? actual, object? expected, int depth)
    {
        if (depth > DepthLimit)
        {
            throw new InvalidOperationException("The collections are nested too deeply to compare.");
        }

        var left = Elements(actual);
        var right = Elements(expected);
        if (IsNothing(left) || IsNothing(right))
        {
            return IsNothing(left) && IsNothing(right);
        }

        return left.Length == right.Length && left.Zip(right).All(pair => IsArray(pair.First) || IsArray(pair.Second)
            ? Same(should, pair.First, pair.Second, depth + 1)
            : Holds(should, $"$expected {comparison} $actual", pair.First, pair.Second));
    }
}

internal sealed class NullOrEmptyOperator() : ShouldOperator("BeNullOrEmpty")
{
    public override bool TakesCollection => true;

    protected override bool TakesExpected => false;

    public override string? Fails(ShouldCommand should, object? actual)
    {
        var values = (object?[])actual!;
        var nothing = values is [] || (values is [var only] && IsNothing(only));
        return nothing != should.Not ? null : Sentence(should, values is [var single] ? single : values, "be null or empty");
    }

    private static bool IsNothing(object? value) =>
        (value is PSObject wrapped ? wrapped.BaseObject : value) is Hashtable table
            ? table.Count == 0
            : string.IsNullOrEmpty(LanguagePrimitives.ConvertTo<string>(value));
}

internal sealed class CountOperator() : ShouldOperator("HaveCount")
{
    public override bool TakesCollection => true;

    public override string? Fails(ShouldCommand should, object? actual)
    {
        var count = ((object?[])actual!).Length;
        var expected = LanguagePrimitives.ConvertTo<int>(should.ExpectedValue);
        ArgumentOutOfRangeException.ThrowIfNegative(expected);
        return (count == expected) != should.Not
            ? null
            : $"Expected {(should.Not ? "any number but " : "")}{expected} values, but got {count}: {Show.Value(actual)}";
    }
}

internal sealed class TypeOperator() : ShouldOperator("BeOfType")
{
    public override string? Fails(ShouldCommand should, object? actual)
    {
        // An unknown name throws, also after -Not.
        var text = should.ExpectedValue as string;
        var type = text is ['[', .., ']'] ? (object)text[1..^1] : should.ExpectedValue;
        var expected = LanguagePrimitives.ConvertTo<Type>(type);
        var got = (actual as PSObject)?.BaseObject.GetType() ?? actual?.GetType();
        return Holds(should, "$actual -is $expected", actual, expected) != should.Not
            ? null
            : $"{Sentence(should, actual, "be of type")}, and it is of {Show.Value(got)}";
    }
}

internal sealed class ExistOperator() : ShouldOperator("Exist")
{
    protected override bool TakesExpected => false;

    public override string? Fails(ShouldCommand should, object? actual)
    {
        // What Test-Path does, wildcards included.
        var exists = should.SessionState.InvokeProvider.Item.Exists(LanguagePrimitives.ConvertTo<string>(actual));
        return exists != should.Not ? null : Sentence(should, actual, "exist");
    }
}
