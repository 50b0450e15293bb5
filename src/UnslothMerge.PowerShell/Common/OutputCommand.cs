using UnslothMerge.Devices;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters of the output and of the run, for saving and planning.</summary>
public abstract class OutputCommand : EngineCommand
{
    /// <summary>What is saved.</summary>
    [Parameter]
    [Alias("SaveMethod")]
    [SaveMethodSpelling]
    public SaveMethod Method { get; set; } = SaveMethod.merged_16bit;

    /// <summary>The dtype of floating-point tensors. auto keeps the dtypes of a 16-bit model and converts float32 to bfloat16.</summary>
    [Parameter]
    [ValidateSet("auto", "bfloat16", "float16", "float32", "BF16", "F16", "F32")]
    public string DType { get; set; } = OutputOptions.Auto;

    /// <summary>The FP8 scales: per block of 128 × 128 (DeepSeek, transformers) or per channel (compressed-tensors). As in an FP8 base,
    /// else block.</summary>
    [Parameter]
    [ValidateSet("block", "channel")]
    public string? Strategy { get; set; }

    /// <summary>The columns that share a scale, for w4a16 and w8a16: 128 by default. vLLM reads 32, 64 and 128.</summary>
    [Parameter]
    [PSDefaultValue(Help = "128")]
    public int? GroupSize { get; set; }

    /// <summary>Gives the groups of w4a16 zero points.</summary>
    [Parameter]
    public SwitchParameter Asymmetric { get; set; }

    /// <summary>The code book of a 4-bit output: as in a 4-bit base, else nf4.</summary>
    [Parameter]
    [ValidateSet("nf4", "fp4")]
    public string? QuantType { get; set; }

    /// <summary>Quantizes the absmax values of a 4-bit output: as in a 4-bit base, else yes. -DoubleQuantization:$false does not.</summary>
    [Parameter]
    public SwitchParameter DoubleQuantization { get; set; }

    /// <summary>The block size of a 4-bit output, in elements per absmax: as in a 4-bit base, else 64.</summary>
    [Parameter]
    public int? BlockSize { get; set; }

    /// <summary>The compute dtype of a 4-bit output: as in a 4-bit base, else the dtype of the model.</summary>
    [Parameter]
    [ValidateSet("bfloat16", "float16", "float32", "BF16", "F16", "F32")]
    public string? ComputeDType { get; set; }

    /// <summary>Modules that a quantized output quantizes although they would stay in 16 bits, as far as readers can load them: names,
    /// parts of paths, with *, or re: and a regular expression.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string[] Include { get; set; } = [];

    /// <summary>Modules that stay in 16 bits, written as for -Include.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string[] Exclude { get; set; } = [];

    /// <summary>The maximum size of a shard: 5GB (decimal), 4GiB (binary), or a number of bytes.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>The memory limit: a fraction of the free memory, or a size for the whole process.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string MaximumMemoryUsage { get; set; } = MemoryAmount.Default;

    /// <summary>The device that merges: auto (the faster one), cpu (the same bytes on every machine), cuda or cuda:1. A GPU needs a
    /// libtorch; see UNSLOTHMERGE_LIBTORCH.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(DeviceCompleter))]
    [ValidateNotNullOrEmpty]
    public string Device { get; set; } = "auto";

    /// <summary>A directory for shards on their way to the Hub, with room for two: for -PushToHub without -Destination. The system's
    /// temporary directory by default.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [PSDefaultValue(Help = "The system's temporary directory")]
    public string TemporaryLocation { get; set; } = Path.GetTempPath();

    /// <summary>The maximum number of threads; the number of processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    /// <summary>The parsed parameters.</summary>
    private protected OutputOptions Options { get; private set; } = null!;

    protected override void BeginProcessing()
    {
        var doubleQuantization = MyInvocation.BoundParameters.ContainsKey(nameof(DoubleQuantization)) ? (bool?)DoubleQuantization : null;
        var temporary = Unresolved(TemporaryLocation, nameof(TemporaryLocation));
        Options = Engine(() => OutputOptions.Parse(this, doubleQuantization, temporary));
    }

    /// <summary>Opens the device; null if the CPU merges.</summary>
    private protected DeviceRun? OpenDevice(WritePlan plan) =>
        Engine(() => DeviceSelection.Open(Options.Device, plan, Options.Memory, ThrottleLimit, WriteVerbose));
}
