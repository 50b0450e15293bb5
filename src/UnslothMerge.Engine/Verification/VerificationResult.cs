using System.Collections.Immutable;

namespace UnslothMerge.Verification;

/// <summary>One question about a saved model, and its answer.</summary>
/// <param name="Check">What was checked.</param>
/// <param name="Passed">True or false; null if it could not be verified.</param>
/// <param name="Detail">What was found.</param>
public sealed record VerificationResult(string Check, bool? Passed, string Detail)
{
    /// <summary>The tensors that the answer is about: those that failed or were not verified.</summary>
    public ImmutableArray<string> Tensors { get; init; } = [];

    /// <summary>The largest distance to the reference among the tensors compared, in units of the last place.</summary>
    public double? WorstUlps { get; init; }

    /// <summary>The tensor with that distance.</summary>
    public string? WorstTensor { get; init; }
}
