using System.Reflection;
using UnslothMerge.Devices;

namespace UnslothMerge.PowerShell.Common;

/// <summary>The parameters of the output and of the run, for saving and planning.</summary>
public abstract class OutputCommand : EngineCommand
{
    // What only says how a merge runs, and where.
    private static readonly string[] Running =
        [nameof(MaximumMemoryUsage), nameof(Device), nameof(TemporaryLocation), nameof(ThrottleLimit)];

    private static readonly PropertyInfo[] Shaping = Array.FindAll(
        typeof(OutputCommand).GetProperties(BindingFlags.Instance | BindingFlags.Public | BindingFlags.DeclaredOnly),
        p => p.IsDefined(typeof(ParameterAttribute)) && !Running.Contains(p.Name));

    // Digits alone below that are rather gigabytes than bytes.
    private const long LeastShardBytes = 1000;

    private readonly HashSet<string> _adopted = new(StringComparer.Ordinal);

    /// <summary>What is saved.</summary>
    [Parameter]
    [Alias("SaveMethod")]
    [SaveMethodSpelling]
    [ArgumentCompleter(typeof(ChoiceCompleter<SaveMethod>))]
    [ValidateNotNullOrEmpty]
    public string Method { get; set; } = nameof(SaveMethod.merged_16bit);

    /// <summary>The dtype of floating-point tensors. auto keeps the dtypes of a 16-bit model and converts float32 to bfloat16.</summary>
    [Parameter]
    [Choice<OutputDType>]
    [ArgumentCompleter(typeof(ChoiceCompleter<OutputDType>))]
    [ValidateNotNullOrEmpty]
    public string DType { get; set; } = OutputOptions.Auto;

    /// <summary>The FP8 scales: per block of 128 × 128 (DeepSeek, transformers) or per channel (compressed-tensors). As in an FP8 base,
    /// else block.</summary>
    [Parameter]
    [Choice<Fp8Scales>]
    [ArgumentCompleter(typeof(ChoiceCompleter<Fp8Scales>))]
    [ValidateNotNullOrEmpty]
    public string? Strategy { get; set; }

    /// <summary>The columns that share a scale, for w4a16 and w8a16: 128 by default. vLLM reads 32, 64 and 128.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(GroupSizeCompleter))]
    [PSDefaultValue(Help = "128")]
    public int? GroupSize { get; set; }

    /// <summary>Gives the groups of w4a16 zero points.</summary>
    [Parameter]
    public SwitchParameter Asymmetric { get; set; }

    /// <summary>The code book of a 4-bit output: as in a 4-bit base, else nf4.</summary>
    [Parameter]
    [Choice<QuantType>]
    [ArgumentCompleter(typeof(ChoiceCompleter<QuantType>))]
    [ValidateNotNullOrEmpty]
    public string? QuantType { get; set; }

    /// <summary>Quantizes the absmax values of a 4-bit output: as in a 4-bit base, else yes. -DoubleQuantization:$false does not.</summary>
    [Parameter]
    public SwitchParameter DoubleQuantization { get; set; }

    /// <summary>The block size of a 4-bit output, in elements per absmax: as in a 4-bit base, else 64.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(BlockSizeCompleter))]
    public int? BlockSize { get; set; }

    /// <summary>The compute dtype of a 4-bit output: as in a 4-bit base, else the dtype of the model.</summary>
    [Parameter]
    [Choice<ComputeDType>]
    [ArgumentCompleter(typeof(ChoiceCompleter<ComputeDType>))]
    [ValidateNotNullOrEmpty]
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

    /// <summary>The maximum size of a shard: 5GB (decimal), 4GiB (binary), or a number of bytes; base keeps the base's shards, so that the
    /// file system can share with it what does not change.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(ShardSizeCompleter))]
    public string MaxShardSize { get; set; } = OutputOptions.DefaultMaxShardSize;

    /// <summary>The memory limit: a fraction of the free memory, or a size for the whole process.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    [ArgumentCompleter(typeof(MemoryCompleter))]
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
    [ArgumentCompleter(typeof(FolderCompleter))]
    [PSDefaultValue(Help = "The system's temporary directory")]
    public string TemporaryLocation { get; set; } = Path.GetTempPath();

    /// <summary>The maximum number of threads; the number of processors by default.</summary>
    [Parameter]
    [ValidateRange(1, 1024)]
    [ArgumentCompleter(typeof(ThreadsCompleter))]
    [PSDefaultValue(Help = "The number of processors")]
    public int ThrottleLimit { get; set; } = Environment.ProcessorCount;

    /// <summary>The parsed parameters.</summary>
    private protected OutputOptions Options { get; private set; } = null!;

    /// <summary>The parameters that shape the output, as far as they are given.</summary>
    private protected PlannedOutput Planned => new(Shaping.Where(p => IsGiven(p.Name)).ToDictionary(p => p.Name, p => p.GetValue(this)));

    private protected override void Begin() => Parse();

    /// <summary>True if a parameter is given here, or was where the merge was planned.</summary>
    private protected bool IsGiven(string parameter) =>
        MyInvocation.BoundParameters.ContainsKey(parameter) || _adopted.Contains(parameter);

    /// <summary>Takes over what the merge was planned with, and refuses what contradicts it.</summary>
    private protected void Adopt(PlannedOutput? planned)
    {
        foreach (var (name, value) in planned?.Parameters ?? PlannedOutput.None)
        {
            var property = Shaping.First(p => p.Name == name);
            if (!IsGiven(name))
            {
                property.SetValue(this, value);
                _adopted.Add(name);
            }
            else if (PlannedOutput.Text(property.GetValue(this)) is var here && PlannedOutput.Text(value) is var there && here != there)
            {
                Engine(() => throw new MergeException(
                    MergeError.InvalidOption, $"The merge was planned with -{name} {there}, but -{name} is {here} here.", name,
                    $"Leave -{name} out here, or plan the merge with -{name} {here}."));
            }
        }

        if (_adopted.Count > 0)
        {
            Parse();
        }
    }

    private void Parse()
    {
        var doubleQuantization = IsGiven(nameof(DoubleQuantization)) ? (bool?)DoubleQuantization : null;
        var temporary = Unresolved(TemporaryLocation, nameof(TemporaryLocation));
        Options = Engine(() => OutputOptions.Parse(this, doubleQuantization, temporary));
        if (Options.Write.MaxShardBytes is < LeastShardBytes and var limit && MaxShardSize.All(char.IsAsciiDigit))
        {
            Warn(new MergeWarning(
                MergeWarningId.SmallShards,
                $"-MaxShardSize {MaxShardSize} means {Amount.Text(limit, "byte")}, so each tensor gets a file of its "
                + $"own. Did you mean {MaxShardSize}GB?"));
        }
    }

    /// <summary>Opens the device; null if the CPU merges.</summary>
    private protected DeviceRun? OpenDevice(WritePlan plan) =>
        Engine(() => DeviceSelection.Open(Options.Device, plan, Options.Memory, ThrottleLimit, WriteVerbose));
}
