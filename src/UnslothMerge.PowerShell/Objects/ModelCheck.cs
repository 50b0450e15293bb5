using UnslothMerge.Verification;

namespace UnslothMerge.PowerShell;

/// <summary>One question about a saved model, and its answer.</summary>
public sealed class ModelCheck
{
    internal ModelCheck(VerificationResult result, string path)
    {
        Check = result.Check;
        Passed = result.Passed;
        Detail = result.Detail;
        Tensors = [.. result.Tensors];
        WorstUlps = result.WorstUlps;
        WorstTensor = result.WorstTensor;
        Path = path;
    }

    /// <summary>What was checked: Files, Names, Config, Merged …</summary>
    public string Check { get; }

    /// <summary>True or false; null if it could not be verified.</summary>
    public bool? Passed { get; }

    /// <summary>What was found.</summary>
    public string Detail { get; }

#pragma warning disable CA1819 // arrays are what PowerShell users index, filter and export
    /// <summary>The tensors that failed, could not be verified, or do not show their change.</summary>
    public string[] Tensors { get; }
#pragma warning restore CA1819

    /// <summary>The largest distance to float64, in units of the last place of result or base, whichever is larger; null where no numbers were computed.</summary>
    public double? WorstUlps { get; }

    /// <summary>The tensor with that distance.</summary>
    public string? WorstTensor { get; }

    /// <summary>The model's directory.</summary>
    public string Path { get; }

    /// <inheritdoc/>
    public override string ToString() => $"{Check}: {Detail}";
}
