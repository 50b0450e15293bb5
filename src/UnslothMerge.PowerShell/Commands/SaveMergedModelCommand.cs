using UnslothMerge.Hub.Fetching;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Saves the tensors of a merge as a model. The destination gets the complete model or nothing.</summary>
[Cmdlet(VerbsData.Save, "MergedModel", SupportsShouldProcess = true)]
[OutputType(typeof(SavedModelShard))]
public sealed class SaveMergedModelCommand : OutputCommand
{
    private static readonly string[] ModelParameters =
        [
            nameof(DType), nameof(MaxShardSize), nameof(Variant), nameof(Strategy), nameof(QuantType), nameof(DoubleQuantization),
            nameof(BlockSize), nameof(ComputeDType), nameof(GroupSize), nameof(Asymmetric), nameof(Include), nameof(Exclude)];

    private readonly MergeInput _input = new();

    /// <summary>The directory of the saved model.</summary>
    [Parameter(Mandatory = true, Position = 0)]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    public string Destination { get; set; } = "";

    /// <summary>The tensors of Merge-LoraModel.</summary>
    [Parameter(Mandatory = true, ValueFromPipeline = true)]
    [AllowNull]
    public PSObject? InputObject { get; set; }

    /// <summary>A directory with the tokenizer and processor to save; by default those of the adapter, else of the base.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Tokenizer { get; set; }

    /// <summary>Additional tags for the model card.</summary>
    [Parameter]
    [Alias("Tags")]
    [ValidateNotNullOrEmpty]
    public string[] Tag { get; set; } = [];

    /// <summary>Datasets for the model card: their names on the Hub.</summary>
    [Parameter]
    [Alias("Datasets")]
    [ValidateNotNullOrEmpty]
    public string[] Dataset { get; set; } = [];

    /// <summary>A variant in the file names: fp16 writes model.fp16.safetensors, which variant="fp16" loads.</summary>
    [Parameter]
    [ValidatePattern("^[A-Za-z0-9_-]+$")]
    public string? Variant { get; set; }

    /// <summary>Writes the given tensors even if others of the model are missing.</summary>
    [Parameter]
    public SwitchParameter AllowPartial { get; set; }

    /// <summary>Replaces a model at the destination. The previous model stays until the new one is complete.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Does not wait until the files are on the disk, as cp does not. A loss of power soon after can then leave neither the new
    /// model nor, with -Force, the previous one.</summary>
    [Parameter]
    public SwitchParameter NoSync { get; set; }

    protected override void BeginProcessing()
    {
        if (Method == SaveMethod.lora && ModelParameters.FirstOrDefault(MyInvocation.BoundParameters.ContainsKey) is { } parameter)
        {
            Refuse(
                parameter, $"The method lora saves an adapter as it is, so -{parameter} would have no effect.",
                $"Leave -{parameter} out, or use merged_16bit.");
        }

        base.BeginProcessing();
    }

    protected override void ProcessRecord() => Engine(() => _input.Add(InputObject));

    protected override void EndProcessing()
    {
        if (_input.Plan is not { } plan)
        {
            Refuse(nameof(InputObject), "There are no tensors to save.", "Pipe the output of Merge-LoraModel here.");
            return;
        }

        var path = Unresolved(Destination, nameof(Destination));
        var directory = Tokenizer is null ? null : ResolveOne(Tokenizer, nameof(Tokenizer), HubUse.Tokenizer).Directory;
        var extras = new ExtrasOptions { Tokenizer = directory, Tags = Tag, Datasets = Dataset };
        var inputs = plan.Steps.Select(s => ("adapter", s.Adapter.Path)).Prepend(("base", plan.Base.Path));
        if (extras.Tokenizer is { } tokenizer)
        {
            inputs = inputs.Append(("tokenizer", tokenizer));
        }

        var target = Engine(() => Saving.Destination.Check(path, inputs, Force, Method == SaveMethod.lora));
        if (Method == SaveMethod.lora)
        {
            SaveAdapter(plan, target, extras);
        }
        else
        {
            SaveModel(plan, target, extras);
        }
    }

    private void SaveAdapter(MergePlan plan, Destination target, ExtrasOptions options)
    {
        Engine(() =>
        {
            if (_input.Tensors.Count() < plan.Tensors.Length)
            {
                throw new MergeException(
                    MergeError.InvalidOption,
                    $"The method lora saves an adapter as it is, but only {_input.Tensors.Count()} of the merge's {plan.Tensors.Length} "
                    + "tensors are in the pipeline.",
                    nameof(Method), "Use merged_16bit with -AllowPartial, or pipe every tensor.");
            }

            if (_input.Strengths.Values.Any(s => s != 1))
            {
                throw new MergeException(
                    MergeError.InvalidOption, "The method lora saves an adapter as it is, but some tensors have a Strength other than 1.",
                    nameof(Method), "Use merged_16bit, or leave every Strength at 1.");
            }
        });
        var extras = Prepared(() => ModelExtras.ForAdapter(plan, target, options));
        if (Confirm(Engine(() => SaveDescription.OfAdapter(plan, extras)), target))
        {
            WriteObject(new SavedModelShard(Engine(() => AdapterSaver.Save(plan, extras, target, !NoSync)), TimeSpan.Zero));
        }
    }

    private void SaveModel(MergePlan plan, Destination target, ExtrasOptions options)
    {
        var tensors = Engine(() => _input.Select(AllowPartial, target.Given));
        var write = Engine(() => WritePlan.Create(plan, tensors, Options.Write with { Variant = Variant }));
        StreamWithoutRoom(plan);
        var extras = Prepared(() => ModelExtras.For(write, target, Method.ToString(), options));
        using var device = OpenDevice(write);
        var memory = ExecutionPlan.For(write, Options.Memory.OfHost(), ThrottleLimit, device?.Need);
        Engine(memory.RequireFit);
        var description = Engine(() => SaveDescription.OfModel(write, Method, extras));
        if (!Confirm(description, target))
        {
            return;
        }

        Engine(() => Download(plan));
        WriteVerbose(Decision(write));
        if (write.Layers is { } layers)
        {
            WriteVerbose($"What readers swap for quantized layers is known by {layers.Source}.");
            if (layers.Warning is { } warning)
            {
                WriteWarning(warning);
            }
        }

        WriteVerbose($"{memory.Workers} workers, at most {ByteSize.Text(memory.PeakHostBytes)} of memory.");
        var progress = new MergeProgressRecord(WriteProgress, $"Saving {target.Given}", write.Shards, TimeProvider.System);
        var clock = Stopwatch.StartNew();
        try
        {
            var shards = Engine(() => ModelSaver.Save(extras, target, new RunOptions(memory, !NoSync) { Device = device }, progress, Stop));
            var saved = shards.Select(s => new SavedModelShard(s, clock.Elapsed)).ToList();
            WriteObject(saved, enumerateCollection: true);
            WarnOfQuantization(saved);
            WarnOfLostDeltas(saved);
        }
        finally
        {
            progress.Complete();
        }
    }

    private string Decision(WritePlan write)
    {
        var types = string.Join(", ", write.Tensors.SelectMany(t => t.Sink.Outputs).Select(o => o.Type.ToString()).Distinct());
        var why = Options.Write.Type is not null ? $"-DType {DType}"
            : write.Merge.Config.DType == write.Config.DType ? "as in the base"
            : "a float32 base becomes a 16-bit model; -DType float32 keeps it";
        return $"Stored as {types} ({why}), in {write.Shards.Length} shard(s) of at most {MaxShardSize}.";
    }

    private void WarnOfQuantization(List<SavedModelShard> shards)
    {
        var worst = shards.SelectMany(s => s.Tensors).Where(t => t.RelativeError is not null).OrderByDescending(t => t.RelativeError)
            .Take(3).ToList();
        if (worst.Count > 0)
        {
            var what = Method switch
            {
                SaveMethod.merged_4bit => "Merging into 4 bits",
                SaveMethod.merged_fp8 => "Merging into FP8",
                _ when Options.Write.Quantization is ExportRequest export => $"Quantizing to {export.Scheme.Name}",
                _ => "Quantizing again what adapters changed",
            };
            WriteWarning(
                $"{what} loses accuracy. The relative error is largest in "
                + $"{string.Join(", ", worst.Select(t => $"{t.Name} ({t.RelativeError:P1})"))}; see RelativeError of each tensor.");
        }
    }

    private void WarnOfLostDeltas(List<SavedModelShard> shards)
    {
        var sums = shards.SelectMany(s => s.Tensors).Select(t => t.Survival).OfType<(double Kept, double Whole)>().ToList();
        if (sums.Sum(s => s.Whole) is var whole && whole > 0 && sums.Sum(s => s.Kept) / whole is < 0.5 and var share)
        {
            WriteWarning(
                $"Quantizing left {share:P0} of the adapters' changes: most of them are smaller than the distance between two codes. "
                + "See DeltaSurvival of each tensor. Use -Method merged_16bit to keep them.");
        }
    }

    private bool Confirm(SaveDescription description, Destination target) =>
        ShouldProcess(description.Text(target), description.Question(target), "Save-MergedModel");

    private ModelExtras Prepared(Func<ModelExtras> prepare)
    {
        var extras = Engine(prepare);
        foreach (var warning in extras.Warnings)
        {
            WriteWarning(warning);
        }

        return extras;
    }
}
