namespace UnslothMerge.Torch;

/// <summary>Distinguishes libtorch's errors, which all are the same exception, by their text.</summary>
internal static class TorchErrors
{
    // cuBLAS reports NOT_INITIALIZED if a handle finds no memory.
    private static readonly string[] Memory =
        ["out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"];

    /// <summary>Runs something on libtorch. Throws <see cref="DeviceMemoryException"/> if it needs more memory than there is.</summary>
    public static T Translate<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (ExternalException e)
        {
            // The first line says what; C++'s stack follows.
            var message = e.Message.Split('\n', 2)[0];
            throw Memory.Any(m => message.Contains(m, StringComparison.OrdinalIgnoreCase))
                ? new DeviceMemoryException(message, e)
                : new MergeException(MergeError.DeviceUnavailable, $"libtorch failed: {message}", "Device", "Use -Device cpu.", e);
        }
    }
}
