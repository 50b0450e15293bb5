using System.Management.Automation;

namespace UnslothMerge.Tests.Pester;

/// <summary>-Throw, with its filters.</summary>
internal sealed class ThrowOperator() : ShouldOperator("Throw")
{
    public override void Check(ShouldCommand should)
    {
        var filtered = should.HasExpected || should.ErrorId is not null || should.ExceptionType is not null;
        if (should.Not && (filtered || should.PassThru))
        {
            throw new PSArgumentException("Should -Not -Throw takes neither filters nor -PassThru: it means no error at all.");
        }

        // Pester takes an empty filter for none, which hides a misspelt variable.
        if ((should.HasExpected && string.IsNullOrWhiteSpace(Message(should))) || should.ErrorId is { } id && string.IsNullOrWhiteSpace(id))
        {
            throw new PSArgumentException("The filter of Should -Throw is empty.");
        }
    }

    public override string? Fails(ShouldCommand should, object? actual)
    {
        if ((actual is PSObject wrapped ? wrapped.BaseObject : actual) is not ScriptBlock body)
        {
            throw new PSArgumentException("Should -Throw takes a script block from the pipeline: { … } | Should -Throw");
        }

        var error = Thrown(should, body);
        if (should.Not)
        {
            return error is null ? null : $"Expected no error, but got {Show.Value(error.Exception.Message)}\n{error.InvocationInfo?.PositionMessage}\n";
        }

        if (error is null)
        {
            return "Expected an error, but there was none";
        }

        string?[] complaints =
        [
            Differs("message", error.Exception.Message, should.HasExpected ? Message(should) : null),
            Differs("id", error.FullyQualifiedErrorId, should.ErrorId),
            should.ExceptionType is { } type && !type.IsInstanceOfType(error.Exception)
                ? $"an error of type {Show.Value(type)}, but got {Show.Value(error.Exception.GetType())}"
                : null,
        ];
        if (complaints.Where(complaint => complaint is not null).ToList() is [_, ..] failed)
        {
            return $"Expected {string.Join("; ", failed)}\n{error.InvocationInfo?.PositionMessage}\n";
        }

        if (should.PassThru)
        {
            should.WriteObject(error);
        }

        return null;
    }

    private static string Message(ShouldCommand should) => LanguagePrimitives.ConvertTo<string>(should.ExpectedValue);

    private static string? Differs(string what, string actual, string? pattern) =>
        pattern is null || WildcardPattern.Get(pattern, WildcardOptions.IgnoreCase).IsMatch(actual)
            ? null
            : $"an error with the {what} like {Show.Value(pattern)}, but got {Show.Value(actual)}";

    /// <summary>The error as a catch would see it. The body runs in a scope inside that of the caller.</summary>
    private static ErrorRecord? Thrown(ShouldCommand should, ScriptBlock body)
    {
        try
        {
            should.InvokeCommand.InvokeScript(useLocalScope: true, body, input: null);
            return null;
        }
        catch (FlowControlException)
        {
            throw;
        }
        catch (Exception error) when (error is not PipelineStoppedException)
        {
            return Failure.Record(error);
        }
    }
}
