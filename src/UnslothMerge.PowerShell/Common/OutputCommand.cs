using System.Management.Automation;
using UnslothMerge.Devices;
using UnslothMerge.Planning;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters that shape an output and the run that writes it: saving takes them, and so does asking what saving would
/// need.</summary>
public abstract class OutputCommand : EngineCommand
{
    /// <summary>What is saved.</summary>
    [Parameter]
    [Alias("SaveMethod")]
    [SaveMethodSpelling]
    public SaveMethod Method { get; set; } = SaveMethod.merged_16bit;

    /// <summary>The dtype of the floating-point tensors. 'auto' keeps each one's own in a 16-bit model, and makes bfloat16 of a float32
    /// one.</summary>
    [Parameter]
    [ValidateSet("auto", "bfloat16", "float16", "float32", "BF16", "F16", "F32")]
    public string DType { get; set; } = OutputOptions.Auto;

    /// <summary>What shares a scale in an FP8 output: blocks of 128 × 128 (as DeepSeek and transformers have it) or the rows of a weight
    /// (as compressed-tensors has it). As in an FP8 base, else block.</summary>
    [Parameter]
    [ValidateSet("block", "channel")]
    public string? Strategy { get; set; }

    /// <summary>The code book of a 4-bit output: the base's own, else nf4.</summary>
    [Parameter]
    [ValidateSet("nf4", "fp4")]
    public string? QuantType { get; set; }

    /// <summary>Whether a 4-bit output quantizes its absmax values too: as the base does, else yes. Write -DoubleQuantization:$false for
    /// no.</summary>
    [Parameter]
    public SwitchParameter DoubleQuantization { get; set; }

    /// <summary>The elements that share one absmax in a 4-bit output: as in the base, else 64.</summary>
    [Parameter]
    public int? BlockSize { get; set; }

    /// <summary>The dtype in which a loaded 4-bit model computes: as in the base, else the model's own.</summary>
    [Parameter]
    [ValidateSet("bfloat16", "float16", "float32", "BF16", "F16", "F32")]
    public string? ComputeDType { get; set; }

    /// <summary>The largest file of weights: 5GB (decimal), 4GiB (binary), or digits for bytes.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>The memory that may be taken: a fraction of what is free, or a size for the whole process.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaximumMemoryUsage { get; set; } = MemoryAmount.Default;

    /// <summary>
    /// Where the arithmetic is done: auto (whatever is faster), cpu (the same bytes on every machine), cuda or cuda:1. A GPU needs a
    /// libtorch; see UNSLOTHMERGE_LIBTORCH.
    /// </summary>
    [Parameter]
    [ArgumentCompleter(typeof(DeviceCompleter))]
    [ValidateNotNullOrEmpty]
    public string Device { get; set; } = "auto";

    /// <summary>
    /// A directory for shards on their way to the Hub. Nothing is put there yet: a model is written beside its destination, and everything
    /// else is kept in memory. The system's temporary directory by default.
    /// </summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "The system's temporary directory")]
    public string TemporaryLocation { get; set; } = Path.GetTempPath();

    /// <summary>The most threads; as many as there are processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    /// <summary>What these parameters say.</summary>
    private protected OutputOptions Options { get; private set; } = null!;

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        var doubleQuantization = MyInvocation.BoundParameters.ContainsKey(nameof(DoubleQuantization)) ? (bool?)DoubleQuantization : null;
        var temporary = Unresolved(TemporaryLocation, nameof(TemporaryLocation));
        Options = Engine(() => OutputOptions.Parse(this, doubleQuantization, temporary));
    }

    /// <summary>Opens the device; null if the cores do all the work.</summary>
    private protected DeviceRun? OpenDevice(WritePlan plan) =>
        Engine(() => DeviceSelection.Open(Options.Device, plan, Options.Memory, ThrottleLimit, WriteVerbose));
}
