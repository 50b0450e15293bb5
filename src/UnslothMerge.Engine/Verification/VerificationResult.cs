namespace UnslothMerge.Verification;

/// <summary>The result of one check of a saved model; <see cref="Passed"/> is null if it could not be verified.</summary>
internal sealed record VerificationResult(string Check, bool? Passed, string Detail)
{
    /// <summary>The tensors that failed or were not verified.</summary>
    public ImmutableArray<string> Tensors { get; init; } = [];

    /// <summary>The largest distance to the reference among the tensors compared, in units of the last place.</summary>
    public double? WorstUlps { get; init; }

    /// <summary>The tensor with that distance.</summary>
    public string? WorstTensor { get; init; }
}
