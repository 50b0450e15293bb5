using UnslothMerge.Saving;

namespace UnslothMerge.Verification;

/// <summary>Whether a loss of power has taken files of a model that was saved without waiting for the disk.</summary>
internal static class LostFilesCheck
{
    /// <summary>Says nothing of models that were saved otherwise.</summary>
    public static IEnumerable<VerificationResult> Run(string output) => UnsyncedFiles.Lost(output) is { } lost
        ? [StructureChecks.Result("OnDisk", lost, "saved with -NoSync; no file is empty, short or zeroed")] : [];
}
