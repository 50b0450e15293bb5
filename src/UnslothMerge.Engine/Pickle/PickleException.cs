namespace UnslothMerge.Pickle;

/// <summary>A file of torch.save that cannot be read, or is refused.</summary>
/// <param name="path">The file.</param>
/// <param name="detail">What is wrong with it.</param>
/// <param name="advice">What the user can do about it.</param>
public sealed class PickleException(string path, string detail, string? advice = null)
    : MergeException(MergeError.InvalidAdapter, $"'{path}' cannot be read: {detail}", path, advice ?? PickleException.SaveAgain)
{
    private const string SaveAgain = "Load the adapter with PEFT where it was made and save it again: save_pretrained writes safetensors.";
}
