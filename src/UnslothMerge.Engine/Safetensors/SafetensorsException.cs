namespace UnslothMerge.Safetensors;

/// <summary>The errors of a safetensors file, with the names of the reference implementation.</summary>
internal enum SafetensorsError
{
    HeaderTooSmall,
    HeaderTooLarge,
    InvalidHeaderLength,
    InvalidHeader,
    InvalidHeaderDeserialization,
    InvalidOffset,
    ValidationOverflow,
    MisalignedSlice,
    TensorInvalidInfo,
    MetadataIncompleteBuffer,
}

/// <summary>A file that is not valid safetensors.</summary>
internal sealed class SafetensorsException(SafetensorsError kind, string path, string detail, string? tensor = null)
    : MergeException(
        MergeError.InvalidSafetensors,
        $"'{path}' is not a valid safetensors file ({kind}{(tensor is null ? "" : $": {tensor}")}): {detail}",
        path,
        kind is SafetensorsError.MetadataIncompleteBuffer or SafetensorsError.InvalidHeaderLength
            ? "The file is probably truncated. Download or copy it again and compare its size."
            : "Download or copy the file again.");
