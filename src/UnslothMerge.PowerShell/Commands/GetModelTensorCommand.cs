using UnslothMerge.Formats;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Lists the tensors of a checkpoint. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "ModelTensor", DefaultParameterSetName = "Path")]
[OutputType(typeof(ModelTensor))]
public sealed class GetModelTensorCommand : PathCommand
{
    /// <summary>The names of the tensors, with wildcards; all by default.</summary>
    [Parameter(Position = 1)]
    [ValidateNotNullOrEmpty]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(TensorNameCompleter))]
    public string[]? Name { get; set; }

    private protected override HubUse Use => HubUse.Base;

    private protected override IEnumerable<object> Look(FetchedModel model)
    {
        var tensors = StoredFormats.Read(ModelDirectory.Open(model.Directory, model.Remote)).Select(t => new ModelTensor(t)).ToList();
        if (Name is null)
        {
            return tensors;
        }

        var plain = Name.Where(n => !WildcardPattern.ContainsWildcardCharacters(n));
        foreach (var name in plain.Where(n => !tensors.Exists(t => t.Name.Equals(n, StringComparison.OrdinalIgnoreCase))))
        {
            WriteError(ErrorRecords.From(new MergeException(
                MergeError.TensorNotFound, $"'{model.Directory}' has no tensor '{name}'.", name,
                    "Use wildcards, such as *q_proj*, or press Tab after -Name."))!);
        }

        var patterns = Name.Select(n => new WildcardPattern(n, WildcardOptions.IgnoreCase)).ToList();
        return tensors.Where(t => patterns.Exists(p => p.IsMatch(t.Name)));
    }
}
