using System.Management.Automation;
using UnslothMerge.Formats;
using UnslothMerge.Models;
using UnslothMerge.PowerShell.Common;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Lists the tensors of a checkpoint. Reads headers only.</summary>
[Cmdlet(VerbsCommon.Get, "ModelTensor", DefaultParameterSetName = "Path")]
[OutputType(typeof(ModelTensor))]
public sealed class GetModelTensorCommand : PathCommand
{
    private protected override IEnumerable<object> Look(string path) => StoredFormats.Read(ModelDirectory.Open(path)).Select(t => new ModelTensor(t));
}
