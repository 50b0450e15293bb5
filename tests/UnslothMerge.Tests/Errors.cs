namespace UnslothMerge.Tests;

/// <summary>What an error must say.</summary>
internal static class Errors
{
    /// <summary>The error that an action ends with; its message or its advice says each of these.</summary>
    public static MergeException Expect(Action action, params string[] said)
    {
        var error = Assert.ThrowsAny<MergeException>(action);
        Assert.All(said, part => Assert.Contains(part, $"{error.Message}\n{error.Advice}", StringComparison.Ordinal));
        return error;
    }

    public static MergeException Expect(MergeError id, Action action, params string[] said)
    {
        var error = Expect(action, said);
        Assert.Equal(id, error.Error);
        return error;
    }
}
