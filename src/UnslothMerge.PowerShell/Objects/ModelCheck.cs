using UnslothMerge.Verification;

namespace UnslothMerge.PowerShell;

/// <summary>One check of a saved model.</summary>
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

    /// <summary>The check: Files, Names, Config, Merged …</summary>
    public string Check { get; }

    /// <summary>True or false; null if there is no reference.</summary>
    public bool? Passed { get; }

    /// <summary>The result in words.</summary>
    public string Detail { get; }

    /// <summary>The tensors that failed, have no reference, or have a change below their resolution.</summary>
    public string[] Tensors { get; }

    /// <summary>The largest error against float64, in ulps of result or base, whichever is larger; null for checks without
    /// values.</summary>
    public double? WorstUlps { get; }

    /// <summary>The tensor with that error.</summary>
    public string? WorstTensor { get; }

    /// <summary>The directory of the model.</summary>
    public string Path { get; }

    public override string ToString() => $"{Check}: {Detail}";
}
