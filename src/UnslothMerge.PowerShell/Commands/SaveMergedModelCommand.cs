using System.Security;
using UnslothMerge.Execution;
using UnslothMerge.Files;
using UnslothMerge.Hub.Publishing;
using UnslothMerge.Saving;

namespace UnslothMerge.PowerShell.Commands;

/// <summary>Saves the tensors of a merge as a model. The destination gets the complete model or nothing.</summary>
[Cmdlet(VerbsData.Save, "MergedModel", SupportsShouldProcess = true, DefaultParameterSetName = LocalSet)]
[OutputType(typeof(SavedModelShard), typeof(PublishedModel))]
public sealed partial class SaveMergedModelCommand : OutputCommand, IPublishing
{
    private const string LocalSet = "Local";
    private const string HubSet = PublishingCommand.HubSet;

    private static readonly string[] ModelParameters =
        [
            nameof(DType), nameof(MaxShardSize), nameof(Variant), nameof(Strategy), nameof(QuantType), nameof(DoubleQuantization),
            nameof(BlockSize), nameof(ComputeDType), nameof(GroupSize), nameof(Asymmetric), nameof(Include), nameof(Exclude),
            nameof(Restart), nameof(Verify), nameof(Part)];

    private readonly MergeInput _input = new();
    private Scratch? _scratch;

    /// <summary>The directory of the saved model. With -PushToHub it may be left out: each shard is then sent and deleted while the next
    /// one is merged, and -TemporaryLocation needs room for two.</summary>
    [Parameter(Position = 0, ParameterSetName = LocalSet)]
    [Parameter(Position = 0, ParameterSetName = HubSet)]
    [Alias("SaveDirectory", "OutputPath")]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
    public string? Destination { get; set; }

    /// <summary>The tensors of Merge-LoraModel.</summary>
    [Parameter(ValueFromPipeline = true)]
    [AllowNull]
    [AllowEmptyCollection]
    public PSObject?[]? InputObject { get; set; }

    /// <summary>A directory with the tokenizer and processor to save; by default those of the adapter, else of the base.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(FolderCompleter))]
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

    /// <summary>Compares the base's weights, too, with the hash by which the Hub's cache names them, while they are merged. Takes a core
    /// and reads each file once more.</summary>
    [Parameter]
    public SwitchParameter Verify { get; set; }

    /// <summary>Begins anew. Without it, a save that was interrupted goes on with the shards that it had finished.</summary>
    [Parameter]
    public SwitchParameter Restart { get; set; }

    /// <summary>Publishes the saved model, too: the repository on the Hub (org/name) that gets it as one commit.</summary>
    [Parameter(Mandatory = true, ParameterSetName = HubSet)]
    [Alias("RepoId")]
    [ValidateNotNullOrEmpty]
    public string? PushToHub { get; set; }

    /// <summary>Makes a new repository private, and refuses an existing one that is public.</summary>
    [Parameter(ParameterSetName = HubSet)]
    public SwitchParameter Private { get; set; }

    /// <summary>The branch on the Hub, made if it is not there; or a pull request that exists, such as refs/pr/7.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "main")]
    public string? Revision { get; set; }

    /// <summary>Makes the commit a new pull request. The right to read is enough.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [Alias("CreatePr")]
    public SwitchParameter CreatePullRequest { get; set; }

    /// <summary>The first line of the commit.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "Upload merged model; of an adapter, Upload adapter")]
    public string? CommitMessage { get; set; }

    /// <summary>What else the commit says.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [ValidateNotNullOrEmpty]
    public string? CommitDescription { get; set; }

    /// <summary>The access token; by default HF_TOKEN, or that of 'hf auth login'.</summary>
    [Parameter(ParameterSetName = HubSet)]
    [TokenTransformation]
    [ValidateNotNull]
    public SecureString? Token { get; set; }

    /// <summary>Does not wait until the files are on the disk, as cp does not. A loss of power within the next minute can then leave
    /// neither the new model nor, with -Force, the previous one: files that are empty, short or full of zeros. Test-MergedModel and the
    /// next save to the same place name them.</summary>
    [Parameter]
    public SwitchParameter NoSync { get; set; }

    // Mandatory parameters would be asked for, although there is nothing to save.
    private protected override void Begin()
    {
        if (!MyInvocation.ExpectingInput && InputObject is null)
        {
            Refuse(
                nameof(InputObject), "There are no tensors to save.", "Write: Merge-LoraModel ./base ./adapter | Save-MergedModel ./out");
        }

        if (Destination is null && PushToHub is null)
        {
            Refuse(
                nameof(Destination), "There is no place to save the model to.",
                "Give a directory: … | Save-MergedModel ./out. Or give -PushToHub, a repository on the Hub.");
        }

        RequireEffect();
        BeginPart();
        base.Begin();
    }

    private protected override void Process()
    {
        if (MyInvocation.ExpectingInput || InputObject is not null)
        {
            Engine(() => Array.ForEach(InputObject ?? [null], _input.Add));
        }
    }

    private protected override void End()
    {
        if (_input.Plan is not { } plan)
        {
            Refuse(nameof(InputObject), "There are no tensors to save.", "Pipe the output of Merge-LoraModel here.");
            return;
        }

        Adopt(_input.Output);
        RequireEffect();
        var hubTarget = PushToHub is null ? null : Engine(() => HubSession.Target(PushToHub, nameof(PushToHub), this));
        using var scratch = _scratch = hubTarget is not null && (Destination is null || _part is not null)
            ? new Scratch(Options.TemporaryLocation, hubTarget.Repository) : null;
        var path = scratch?.Path ?? Unresolved(Destination!, nameof(Destination));
        var directory = Tokenizer is null ? null : ResolveOne(Tokenizer, nameof(Tokenizer), HubUse.Tokenizer).Directory;
        var extras = new ExtrasOptions { Tokenizer = directory, Tags = Tag, Datasets = Dataset };
        var inputs = plan.Steps.Select(s => ("adapter", s.Adapter.Path)).Prepend(("base", plan.Base.Path));
        if (extras.Tokenizer is { } tokenizer)
        {
            inputs = inputs.Append(("tokenizer", tokenizer));
        }

        var target = Engine(() => Saving.Destination.Check(path, inputs, Force, Method == nameof(SaveMethod.lora)));
        using var hub = hubTarget is null ? null : Engine(() => new HubSession(this, Token, hubTarget));
        if (Method == nameof(SaveMethod.lora))
        {
            SaveAdapter(plan, target, extras, hub);
        }
        else
        {
            SaveModel(plan, target, extras, hub);
        }
    }

    private void RequireEffect()
    {
        if (Method == nameof(SaveMethod.lora) && ModelParameters.FirstOrDefault(IsGiven) is { } parameter)
        {
            Refuse(
                parameter, $"The method lora saves an adapter as it is, so -{parameter} would have no effect.",
                $"Leave -{parameter} out, or use merged_16bit.");
        }
    }

    private void SaveAdapter(MergePlan plan, Destination target, ExtrasOptions options, HubSession? hub)
    {
        Engine(() =>
        {
            if (_input.Tensors.Count() < plan.Tensors.Count)
            {
                throw new MergeException(
                    MergeError.InvalidOption,
                    $"The method lora saves an adapter as it is, but only {_input.Tensors.Count()} of the merge's {plan.Tensors.Count} "
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
        if (Confirm(Engine(() => SaveDescription.OfAdapter(plan, extras)), target, plan, extras, hub))
        {
            Engine(() => _scratch?.Open());
            var saved = Engine(() => new SavedModelShard(
                Path.Combine(target.Path, Adapters.AdapterDirectory.WeightsName), AdapterSaver.Save(plan, extras, target, !NoSync), plan));
            if (Destination is not null)
            {
                WriteObject(saved);
            }

            Publish(plan, target, hub);
        }
    }

    private void SaveModel(MergePlan plan, Destination target, ExtrasOptions options, HubSession? hub)
    {
        var tensors = Engine(() => _input.Select(AllowPartial, PushToHub is null ? target.Given : PushToHub));
        var write = Engine(() => WritePlan.Create(plan, tensors, Options.Write with { Variant = Variant }));
        StreamWithoutRoom(plan);
        var extras = Prepared(() => ModelExtras.For(write, target, Method, options));
        using var device = OpenDevice(write);
        var memory = ExecutionPlan.For(write, Options.Memory.OfHost(), ThrottleLimit, device?.Need);
        Engine(memory.RequireFit);
        if (_part is not null)
        {
            SavePart(memory, target, extras, device, hub);
            return;
        }

        var description = Engine(() => SaveDescription.OfModel(write, Method, extras));
        if (!Confirm(description, target, plan, extras, hub))
        {
            return;
        }

        Prepare(memory);
        if (Destination is null)
        {
            Stream(memory, extras, target.Path, hub!, device);
            return;
        }

        var clock = Stopwatch.StartNew();
        using (var progress = new MergeProgressRecord(WriteProgress, $"Saving {target.Given}", write.Shards, TimeProvider.System))
        {
            using var signals = new EndingSignals();
            var run = Run(memory, device, signals);
            var shards = Engine(() => ModelSaver.Save(extras, target, run, progress, Stop));
            var saved = shards.Select(s => new SavedModelShard(s, plan, clock.Elapsed)).ToList();
            WriteObject(saved, enumerateCollection: true);
            Summarize(saved, target, clock.Elapsed);
            WarnOfQuantization(saved);
            WarnOfLostDeltas(saved);
        }

        Publish(plan, target, hub);
    }

    // A command that was stopped may write nothing more to the pipeline, but to the screen.
    private void Note(MergeWarning warning)
    {
        if (Stopping)
        {
            Host.UI.WriteWarningLine(warning.Text);
        }
        else
        {
            Warn(warning);
        }
    }

    private RunOptions Run(ExecutionPlan memory, Devices.DeviceRun? device, EndingSignals signals) => new(memory, !NoSync)
    {
        Device = device, Restart = Restart, Verify = Verify, Note = Note, Ending = signals.Ending, Finished = Describe,
    };

    // Downloads what is to be downloaded, and says what will be done.
    private void Prepare(ExecutionPlan memory)
    {
        var write = memory.Write;
        Engine(() => Download(write.Merge));
        WriteVerbose(Decision(write));
        if (write.Layers is { } layers)
        {
            WriteVerbose($"What readers swap for quantized layers is known by {layers.Source}.");
            if (layers.Warning is { } warning)
            {
                Warn(new MergeWarning(MergeWarningId.ExpertsNotQuantized, warning));
            }
        }

        WriteVerbose($"{memory.Workers} workers, at most {ByteSize.Text(memory.PeakHostBytes)} of memory.");
    }

    // Each shard goes up and is deleted: there need not be room for the model.
    private void Stream(ExecutionPlan memory, ModelExtras extras, string scratch, HubSession hub, Devices.DeviceRun? device)
    {
        var clock = Stopwatch.StartNew();
        var run = new RunOptions(memory, Sync: false) { Device = device, Finished = Describe };
        var (result, shards) = Engine(() =>
        {
            OpenScratch(memory.Write.Shards);
            var hashed = Verify ? KnownHashes.Compare(memory.Write.Merge.InputFiles, Note, Stop) : Task.CompletedTask;
            return hub.Run((publisher, plan, progress) => StreamedSave.Run(publisher, plan, memory.Write, extras, scratch, Merge, Others,
                progress, Stop));

            // The last thing before the commit.
            List<UploadFile> Others()
            {
                hashed.GetAwaiter().GetResult();
                return hub.Files(scratch, memory.Write.Merge.Base.HubId, PublishedFiles.InputsOf(memory.Write.Merge));
            }
        });
        var saved = shards.Select(s => new SavedModelShard(s, memory.Write.Merge, clock.Elapsed)).ToList();
        WriteObject(saved, enumerateCollection: true);
        WarnOfQuantization(saved);
        WriteObject(new PublishedModel(result, clock.Elapsed));

        FinishedShard Merge(WriteShard shard, CancellationToken stop)
        {
            using var progress = new MergeProgressRecord(WriteProgress, $"Merging {shard.Name}", [shard], TimeProvider.System);
            return StreamedSave.Merge(shard, scratch, run, progress, stop);
        }
    }

    private void OpenScratch(IEnumerable<WriteShard> shards)
    {
        DiskSpace.RequireScratch(StreamedSave.ScratchBytes(shards), Options.TemporaryLocation);
        _scratch!.Open();
    }

    private void Describe(FinishedShard shard) => WriteVerbose(
        $"{shard.Name}: {Amount.Text(shard.Tensors.Count, "tensor")}, {shard.Tensors.Count(t => t.Tensor.IsChanged)} changed, "
        + $"{Display.Rate(shard.Bytes, shard.Time ?? TimeSpan.Zero)}; {shard.How}.");

    private void Summarize(List<SavedModelShard> saved, Destination target, TimeSpan time)
    {
        var files = Directory.GetFiles(target.Path, "*", SearchOption.AllDirectories).Length;
        WriteVerbose(
            $"Saved '{target.Path}': {Amount.Text(files, "file")}, weights of {Display.Rate(saved.Sum(s => s.Bytes), time)}.");
    }

    private string Decision(WritePlan write)
    {
        var types = string.Join(", ", write.Tensors.SelectMany(t => t.Sink.Outputs).Select(o => o.Type.ToString()).Distinct());
        var why = Options.Write.Type is not null ? $"-DType {DType}"
            : write.Merge.Config.DType == write.Config.DType ? "as in the base"
            : "a float32 base becomes a 16-bit model; -DType float32 keeps it";
        return $"Stored as {types} ({why}), in {Amount.Text(write.Shards.Length, "shard")} "
            + (Options.Write.MaxShardBytes is null ? "as in the base." : $"of at most {MaxShardSize}.");
    }

    private void WarnOfQuantization(List<SavedModelShard> shards)
    {
        var worst = shards.SelectMany(s => s.Tensors).Where(t => t.RelativeError is not null).OrderByDescending(t => t.RelativeError)
            .Take(3).ToList();
        if (worst.Count > 0)
        {
            var what = Method switch
            {
                nameof(SaveMethod.merged_4bit) => "Merging into 4 bits",
                nameof(SaveMethod.merged_fp8) => "Merging into FP8",
                _ when Options.Write.Quantization is ExportRequest export => $"Quantizing to {export.Scheme.Name}",
                _ => "Quantizing again what adapters changed",
            };
            Warn(
                new MergeWarning(
                    MergeWarningId.QuantizationError,
                    $"{what} loses accuracy. The relative error is largest in "
                    + $"{string.Join(", ", worst.Select(t => $"{t.Name} ({t.RelativeError:P1})"))}; see RelativeError of each tensor."),
                key: what);
        }
    }

    private void WarnOfLostDeltas(List<SavedModelShard> shards)
    {
        var sums = shards.SelectMany(s => s.Tensors).Select(t => t.Survival).OfType<(double Kept, double Whole)>().ToList();
        if (sums.Sum(s => s.Whole) is var whole && whole > 0 && sums.Sum(s => s.Kept) / whole is < 0.5 and var share)
        {
            Warn(new MergeWarning(
                MergeWarningId.DeltaLost,
                $"Quantizing left {share:P0} of the adapters' changes: most of them are smaller than the distance between two codes. "
                + "See DeltaSurvival of each tensor. Use -Method merged_16bit to keep them."));
        }
    }

    // What the Hub would refuse is found before the question, and so before a byte is merged.
    private bool Confirm(SaveDescription description, Destination target, MergePlan plan, ModelExtras extras, HubSession? hub)
    {
        var published = "";
        if (hub is not null)
        {
            PlanPublication(description, plan, extras, hub);
            published = $"\n{hub.Summary(description.Files.Count, description.Files.Sum(f => f.Bytes ?? 0))}.{hub.Deleted()}";
        }

        // Nobody asked for the scratch.
        var place = Destination is null ? PushToHub! : target.Given;
        return ShouldProcess(
            description.Text(target, place) + published, description.Question(target, place) + published, "Save-MergedModel");
    }

    private void PlanPublication(SaveDescription description, MergePlan plan, ModelExtras extras, HubSession hub)
    {
        var card = extras.Planned().Where(f => f.Name == CardText.FileName).Select(f => UploadFile.Of(
            System.Text.Encoding.UTF8.GetBytes(
                PublishedFiles.Clean(f.Text!, f.Name, plan.Base.HubId, PublishedFiles.InputsOf(plan), [])), f.Name));
        Engine(() => hub.Plan([.. description.Files.Select(f => f.Name)], [.. card], plan.Base.HubId, Stop));
    }

    private void Publish(MergePlan plan, Destination target, HubSession? hub)
    {
        if (hub is not null)
        {
            var isAdapter = Method == nameof(SaveMethod.lora);
            WriteObject(Engine(() => Destination is null ? hub.Publish(Files(), isAdapter, Stop)
                : hub.PublishSaved(Destination, Files, isAdapter, Stop)));
        }

        List<UploadFile> Files() => hub.Files(target.Path, plan.Base.HubId, PublishedFiles.InputsOf(plan));
    }

    private ModelExtras Prepared(Func<ModelExtras> prepare)
    {
        var extras = Engine(prepare);
        foreach (var warning in extras.Warnings)
        {
            Warn(warning);
        }

        return extras;
    }
}
