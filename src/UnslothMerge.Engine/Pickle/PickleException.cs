namespace UnslothMerge.Pickle;

/// <summary>A file of torch.save that cannot be read, or is refused.</summary>
internal sealed class PickleException(string path, string detail, string? advice = null)
    : MergeException(MergeError.InvalidAdapter, $"'{path}' cannot be read: {detail}", path, advice ?? PickleException.SaveAgain)
{
    private const string SaveAgain = "Load it where it was made and save it again: save_pretrained writes safetensors.";
}
