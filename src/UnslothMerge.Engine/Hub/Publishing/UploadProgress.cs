namespace UnslothMerge.Hub.Publishing;

/// <summary>How far a publication is: what it does, and the bytes of that.</summary>
internal readonly record struct UploadProgress(string Phase, long Done, long Total);
